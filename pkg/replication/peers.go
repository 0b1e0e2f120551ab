package replication

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/vector"
)

// Times of the state machine. Each names what it bounds.
const (
	headEvery     = time.Second             // between two heads
	headGap       = 50 * time.Millisecond   // between two heads at least
	mqttSilence   = 2500 * time.Millisecond // unheard by MQTT: heads go over TCP
	liveFor       = 5 * time.Second         // a peer counts as alive after it was heard
	gapPatience   = 200 * time.Millisecond  // a gap that messages in flight may still close
	startPatience = 5 * time.Second         // for a peer to answer
	startLimit    = 30 * time.Second        // for a first pull that does not get on
	stalled       = 10 * time.Second        // without progress, a pull does not get on
	startAlone    = time.Second             // for anybody to show up
	handOver      = 5 * time.Second         // for a peer to take over the entries
	rivalAfter    = 3 * time.Second         // the start: what a rival made then is no dead predecessor's
	rivalGap      = 500 * time.Millisecond  // between two messages that prove a rival alive
	forgetAfter   = 10 * time.Minute        // a peer, an address, an ended instance in heads
	maxPeers      = 4096
	maxActive     = 2 * maxHeadItems // instances
	maxDials      = 16               // at once
)

// peer is another instance, as far as it was heard of.
type peer struct {
	instance uint64
	nodeID   string // empty until it said so
	address  string // where it says it can be dialled
	version  string
	started  int64
	counter  uint64                 // of its last head, by whichever way
	direct   uint64                 // of the last head that it sent itself
	head     *Head                  // its last one
	made     time.Duration          // when that was made, as far as is known
	known    map[uint64]vector.Mark // what it holds
	down     bool                   // it said good-bye
	told     bool                   // the log says that it is there
	presence uint64                 // greatest counter of its presences
	rest     rest

	heard, heardMQTT, heardTCP time.Duration // never: -forever
}

const never = -time.Hour

// peer returns the record of an instance, which it makes if there is room.
func (c *Core) peer(instance uint64) *peer {
	p := c.peers[instance]
	if p == nil {
		if len(c.peers) >= maxPeers {
			return nil
		}
		p = &peer{instance: instance, known: make(map[uint64]vector.Mark), heard: never, heardMQTT: never, heardTCP: never, made: never,
			rest: rest{since: never, dialed: never}}
		c.peers[instance] = p
	}
	return p
}

// note records that the peer holds the changes of an origin up to m.
func (p *peer) note(origin uint64, m vector.Mark) {
	if m.Seq > p.known[origin].Seq {
		p.known[origin] = m
	}
}

// noteHead records what a head says, and when it was made.
func (p *peer) noteHead(h *Head, made time.Duration) {
	p.nodeID, p.address, p.started, p.counter, p.head = h.NodeID, h.Address, h.Started, h.Counter, h
	p.made = made
	newest := p.known[p.instance]
	p.known = make(map[uint64]vector.Mark, len(h.Vector)+1)
	for _, it := range h.Vector {
		p.known[it.Instance] = vector.Mark{Seq: it.Seq, HLC: hlc.Timestamp(it.HLC)}
	}
	p.note(p.instance, h.Last)
	p.note(p.instance, newest)
}

// pausedNow reports whether the peer gives no changes at present.
func (p *peer) pausedNow() bool { return p.head != nil && p.head.Paused }

// live reports whether a peer can be counted on at present.
func (c *Core) live(p *peer) bool { return !p.down && c.now-p.heard <= liveFor }

// tellPeers logs which peers came and went since the last call.
func (c *Core) tellPeers() {
	for _, p := range c.peers {
		live := c.live(p)
		if live == p.told || p.nodeID == "" {
			continue
		}
		p.told = live
		msg := "peer is there"
		if !live {
			msg = "peer is gone"
		}
		c.log.Info(msg, "node_id", p.nodeID, "instance", fmt.Sprintf("%016x", p.instance), "address", p.address)
	}
}

// livePeers returns the peers that can be counted on, by instance.
func (c *Core) livePeers() []*peer {
	var live []*peer
	for _, id := range slices.Sorted(maps.Keys(c.peers)) {
		if p := c.peers[id]; c.live(p) {
			live = append(live, p)
		}
	}
	return live
}

// judgeSolo finds out whether no peer is alive.
func (c *Core) judgeSolo() {
	c.solo = c.ready
	for _, p := range c.peers {
		if c.live(p) {
			c.solo = false
			return
		}
	}
}

// host is a name under which peers can be reached.
type host struct {
	name       string // host:port
	configured bool
	answered   bool          // somebody did at one of its addresses, or sends heads that name it
	addrs      []string      // ip:port, what it resolved to last
	resolving  bool          // an answer is awaited
	asked      time.Duration // when it was last resolved
	used       time.Duration // when it was last named by a peer
}

// endpoint is an address to dial.
type endpoint struct {
	addr     string        // ip:port
	instance uint64        // of who answered there last, 0 for nobody yet
	self     bool          // it is this node
	busy     bool          // a dial is under way
	dialed   time.Duration // when it was last dialled
	fails    int
	next     time.Duration // not to be dialled before
	err      string        // of the last dial
}

// AddHost makes a name known.
func (c *Core) AddHost(name string, configured bool) {
	if name == "" || name == c.set.Address {
		return
	}
	h := c.hosts[name]
	if h == nil {
		if len(c.hosts) >= maxPeers {
			return
		}
		h = &host{name: name, asked: never}
		c.hosts[name] = h
	}
	h.configured = h.configured || configured
	h.used = c.now
	if h.asked == never {
		c.resolve(h)
	}
}

// answeredAt notes that somebody answered at an address.
func (c *Core) answeredAt(addr string) {
	for _, h := range c.hosts {
		if slices.Contains(h.addrs, addr) {
			h.answered = true
		}
	}
}

// silent returns the configured names at which nobody ever answered.
func (c *Core) silent() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.hosts)) {
		if h := c.hosts[name]; h.configured && !h.answered {
			list = append(list, name)
		}
	}
	return list
}

// SetDiscoveryInterval sets how often names are looked up again.
func (c *Core) SetDiscoveryInterval(d time.Duration) { c.set.DiscoveryInterval = d }

// Forget drops what is known of a node: its instances, unless they are alive, and
// the addresses that were learned from them.
func (c *Core) Forget(nodeID string) {
	for id, p := range c.peers {
		if p.nodeID != nodeID || c.live(p) {
			continue
		}
		if h := c.hosts[p.address]; h != nil && !h.configured {
			delete(c.hosts, p.address)
		}
		delete(c.peers, id)
	}
	c.rebuildEndpoints()
	c.assess()
	c.judgeSolo()
}

// resolve asks for a name's addresses, at most once a second.
func (c *Core) resolve(h *host) {
	if h.resolving || c.now-h.asked < time.Second {
		return
	}
	h.resolving, h.asked = true, c.now
	c.emit(Action{Kind: ActResolve, Addr: h.name})
}

// OnResolved takes in what a name resolved to; none after a failure, which
// leaves the last known addresses in use.
func (c *Core) OnResolved(name string, addrs []string) {
	h := c.hosts[name]
	if h == nil {
		return
	}
	h.resolving = false
	if len(addrs) > 0 {
		h.addrs = slices.Compact(slices.Sorted(slices.Values(addrs)))
	}
	c.rebuildEndpoints()
	c.step()
}

// rebuildEndpoints makes the endpoints those of all hosts.
func (c *Core) rebuildEndpoints() {
	wanted := make(map[string]bool)
	for _, h := range c.hosts {
		for _, a := range h.addrs {
			wanted[a] = true
		}
	}
	for a := range wanted {
		if c.endpoints[a] == nil {
			c.endpoints[a] = &endpoint{addr: a}
		}
	}
	maps.DeleteFunc(c.endpoints, func(a string, e *endpoint) bool { return !wanted[a] && !e.busy })
}

// endpointsByAddr returns the endpoints in a fixed order.
func (c *Core) endpointsByAddr() []*endpoint {
	all := make([]*endpoint, 0, len(c.endpoints))
	for _, a := range slices.Sorted(maps.Keys(c.endpoints)) {
		all = append(all, c.endpoints[a])
	}
	return all
}

// endpointOf returns where to dial a peer, nil if that is not known or is
// failing. busy says that there is a place, which is in use.
func (c *Core) endpointOf(p *peer) (e *endpoint, busy bool) {
	for _, e := range c.endpointsByAddr() {
		if e.instance != p.instance {
			continue
		}
		if e.busy {
			return nil, true
		}
		if c.now >= e.next {
			return e, false
		}
	}
	if h := c.hosts[p.address]; h != nil {
		for _, a := range h.addrs {
			e := c.endpoints[a]
			if e != nil && e.instance != p.instance && !e.self && !e.busy && c.now >= e.next {
				return e, false
			}
		}
	}
	return nil, false
}

// forget drops what has not been heard of for long, and looks names up again.
func (c *Core) forget() {
	changed := false
	for id, p := range c.peers {
		if c.now-max(p.heard, p.made) > forgetAfter {
			delete(c.peers, id)
		}
	}
	for id, at := range c.active {
		if c.now-at > forgetAfter {
			delete(c.active, id)
		}
	}
	for name, h := range c.hosts {
		if !h.configured && c.now-h.used > forgetAfter {
			delete(c.hosts, name)
			changed = true
		} else if len(h.addrs) == 0 || c.now-h.asked >= c.set.DiscoveryInterval {
			c.resolve(h)
			for _, a := range h.addrs {
				if e := c.endpoints[a]; e != nil {
					e.self = false // addresses change hands
				}
			}
		}
	}
	if changed {
		c.rebuildEndpoints()
	}
}
