package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Limits of retained messages.
const (
	maxRetained      = 4096     // number, Mochi's own included
	maxRetainedBytes = 64 << 10 // payload of one
)

var errUserChanged = errors.New("the client's user has changed")

// digest stands for a password. It is keyed, so that comparing two says nothing
// about the passwords, and is as long for any password.
type digest [sha256.Size]byte

// guard is the hook that decides who may do what. What it does not allow is
// refused.
type guard struct {
	mqtt.HookBase
	log         *slog.Logger
	updates     string
	heads       string
	nodes       string // with the last slash
	all         string
	maxSessions int
	topics      *mqtt.TopicsIndex
	clients     *mqtt.Clients
	key         [32]byte // of the digests

	mu    sync.RWMutex
	users map[string]digest // nil: anonymous clients may use the prefix

	// retained keeps apart the writers of a retained message and those who look
	// for some with a wildcard: Mochi lets them meet in one string, which may
	// crash. It is held from one hook of a packet to a later one of the same
	// packet, and in between Mochi may write to that packet's client, which ends
	// within the write timeout.
	retained sync.RWMutex

	refused, forbidden, dropped atomic.Uint64
}

func newGuard(o Options, log *slog.Logger) *guard {
	g := &guard{
		log: log, maxSessions: 4 * o.MaxClients,
		updates: o.Prefix + "/updates",
		heads:   o.Prefix + "/heads",
		nodes:   o.Prefix + "/nodes/",
		all:     o.Prefix + "/#",
	}
	_, _ = rand.Read(g.key[:]) // never fails
	g.setUsers(o.Users)
	return g
}

func (g *guard) digest(password []byte) (d digest) {
	m := hmac.New(sha256.New, g.key[:])
	m.Write(password)
	m.Sum(d[:0])
	return d
}

func (g *guard) setUsers(users map[string]string) {
	var digests map[string]digest
	if len(users) > 0 {
		digests = make(map[string]digest, len(users))
		for name, password := range users {
			digests[name] = g.digest([]byte(password))
		}
	}
	g.mu.Lock()
	g.users = digests
	g.mu.Unlock()
}

// user returns what is known of a name, and whether users are configured at all.
func (g *guard) user(name string) (d digest, known, configured bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	d, known = g.users[name]
	return d, known, g.users != nil
}

// stillGranted reports whether a connected client would be let in again.
func (g *guard) stillGranted(cl *mqtt.Client) bool {
	want, known, configured := g.user(string(cl.Properties.Username))
	if !configured {
		return true
	}
	c, ok := cl.Net.Conn.(*conn)
	if !ok || !known {
		return false
	}
	got := c.granted.Load()
	return got != nil && hmac.Equal(got[:], want[:])
}

// ID names the hook in Mochi's log.
func (g *guard) ID() string { return "guard" }

// Provides says which events the hook wants.
func (g *guard) Provides(event byte) bool {
	switch event {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck,
		mqtt.OnPublish, mqtt.OnPublishDropped, mqtt.OnWill,
		mqtt.OnRetainMessage, mqtt.OnSubscribed, mqtt.OnPacketProcessed:
		return true
	}
	return false
}

// OnConnect refuses a will that the client could not publish itself, which Mochi
// does not check, and bounds the number of sessions.
func (g *guard) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if pk.Connect.WillFlag && !g.mayPublish(pk.Connect.WillTopic) {
		g.forbidden.Add(1)
		g.log.Warn("client is refused: its will is for a topic that it may not publish to",
			"client", cl.ID, "topic", pk.Connect.WillTopic)
		return packets.ErrNotAuthorized
	}
	if _, again := g.clients.Get(cl.ID); !again && g.clients.Len() >= g.maxSessions {
		g.refused.Add(1)
		return packets.ErrServerBusy
	}
	cl.Properties.Will.WillDelayInterval = 0 // a delayed will takes another way
	return nil
}

// OnConnectAuthenticate checks name and password.
func (g *guard) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	name := string(pk.Connect.Username)
	want, known, configured := g.user(name)
	got := g.digest(pk.Connect.Password)
	ok := hmac.Equal(got[:], want[:]) && known
	if configured && !ok {
		g.refused.Add(1)
		g.log.Warn("client is refused: wrong user name or password", "client", cl.ID, "user", name, "remote", cl.Net.Remote)
		return false
	}
	if c, isConn := cl.Net.Conn.(*conn); isConn {
		c.granted.Store(&got)
	}
	return true
}

// OnACLCheck is asked for every subscription, and for every message when it comes
// in and when it goes out.
func (g *guard) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	ok := g.stillGranted(cl)
	if write {
		ok = ok && g.mayPublish(topic)
	} else {
		ok = ok && g.maySubscribe(topic)
	}
	if !ok {
		g.forbidden.Add(1)
		g.log.Debug("client is refused a topic", "client", cl.ID, "topic", topic, "write", write)
	}
	return ok
}

func (g *guard) mayPublish(topic string) bool {
	return topic == g.updates || topic == g.heads || g.isNode(topic)
}

// maySubscribe is asked for filters, and for topics of messages that go out.
func (g *guard) maySubscribe(filter string) bool {
	return g.mayPublish(filter) || filter == g.all || filter == g.nodes+"+"
}

// isNode reports whether a topic is <prefix>/nodes/ and one level.
func (g *guard) isNode(topic string) bool {
	id, ok := strings.CutPrefix(topic, g.nodes)
	return ok && id != "" && !strings.ContainsAny(id, "/+#\x00")
}

// OnPublish lets presence be retained, as far as there is room, and nothing else.
func (g *guard) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Retain && !g.mayRetain(pk.TopicName, len(pk.Payload)) {
		pk.FixedHeader.Retain = false
	}
	if pk.FixedHeader.Retain {
		g.retained.Lock() // until OnRetainMessage
	}
	return pk, nil
}

// OnWill does the same for a will, which is not published the usual way.
func (g *guard) OnWill(_ *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	will.Retain = will.Retain && g.mayRetain(will.TopicName, len(will.Payload))
	if will.Retain {
		g.retained.Lock() // until OnRetainMessage
	}
	return will, nil
}

// OnRetainMessage is called when a message was retained.
func (g *guard) OnRetainMessage(*mqtt.Client, packets.Packet, int64) { g.retained.Unlock() }

// OnSubscribed is called before a new subscriber gets what is retained.
func (g *guard) OnSubscribed(*mqtt.Client, packets.Packet, []byte) { g.retained.RLock() }

// OnPacketProcessed is called when nothing more is done for a packet.
func (g *guard) OnPacketProcessed(_ *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type == packets.Subscribe {
		g.retained.RUnlock()
	}
}

// mayRetain reports whether a message of size bytes may be retained.
func (g *guard) mayRetain(topic string, size int) bool {
	if !g.isNode(topic) || size > maxRetainedBytes {
		return false
	}
	if g.topics.Retained.Len() < maxRetained {
		return true
	}
	_, again := g.topics.Retained.Get(topic)
	return again
}

// OnPublishDropped counts messages for clients that do not keep up.
func (g *guard) OnPublishDropped(*mqtt.Client, packets.Packet) { g.dropped.Add(1) }
