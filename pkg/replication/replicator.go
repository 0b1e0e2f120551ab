package replication

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/internal/address"
	"merklekv/pkg/internal/mqttlink"
	"merklekv/pkg/journal"
	"merklekv/pkg/protocol"
)

// Options configure a Replicator.
type Options struct {
	NodeID  string
	Prefix  string // topic prefix: the name of the cluster
	Address string // host:port where peers can dial this node
	Version string // of the program, for presence
	Secret  []byte // of the cluster; empty: nothing is signed
	Params  protocol.PeerParams

	PeerList          []string      // host:port
	DiscoveryInterval time.Duration // between two look-ups of a name; 60 s
	MaxServed         int           // pulls served at once; 4

	MQTT MQTTOptions

	Replica Replica
	// Volume is the random number of the directory that keeps this node's data; 0:
	// none does. Received is what was received before the start, whose entries the
	// replica holds.
	Volume   uint64
	Received []journal.Mark

	Millis func() int64 // clock, Unix milliseconds; nil: time.Now
	// Wall is what the machine's own clock reads, Unix milliseconds; nil: Millis. It
	// is what peers are told: were that the median of what peers say, nodes would hold
	// each other at a time that is long wrong.
	Wall     func() int64
	MaxDrift func() time.Duration            // limit of clock drift; nil: 60 s
	Report   func(peer string, millis int64) // takes a peer's clock reading; may be nil
	ReadOnly func(why string)                // must stop client writes, without blocking; may be nil
	// Closed returns what is known of closed epochs; nil: they close by the clock
	// and have no roots. It is called often.
	Closed func() Closed

	// Session serves a repair session that a peer opened on a link, whose heads
	// were exchanged. open is the payload of its FrameSync. When it returns nil,
	// the link goes on; with an error, which is logged, it is closed. nil: sessions
	// are refused.
	Session func(ctx context.Context, l *Link, open []byte) error
	// Repairs reports whether sessions run now. What a log has lost is left to them
	// where they do at both ends, and else copied whole. nil: if Session is set. It
	// is called by several goroutines and must not block.
	Repairs func() bool

	Registerer prometheus.Registerer // nil: metrics are not exposed
	Logger     *slog.Logger          // nil: no log

	// Dial and Resolve replace the network's; nil: the system's.
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	Resolve func(ctx context.Context, host string) ([]string, error)
}

// MQTTOptions are about brokers.
type MQTTOptions struct {
	Brokers            []string // addresses; none: peers are reached by TCP only
	ClientID           string   // empty: the node_id
	Username, Password string
	KeepAlive          time.Duration
	CleanSession       bool
}

// Replicator replicates one node. All methods may be called by several
// goroutines at once.
type Replicator struct {
	opts    Options
	log     *slog.Logger
	met     *metrics
	codec   *Codec
	started int64
	counter atomic.Uint64 // of messages
	quiet   quiet

	core       *Core // belongs to the loop
	events     chan func(*Core)
	linkState  chan struct{} // capacity 1: some link changed
	epochs     chan struct{} // capacity 1: an epoch was closed
	paused     atomic.Bool
	ended      chan struct{} // closed when the loop has ended
	snapshot   atomic.Pointer[Status]
	alone      atomic.Bool // no peer is alive
	serving    *seats      // of the pulls that are served
	links      []*mqttlink.Link
	publishers []*publisher
	workers    sync.WaitGroup // dials and look-ups
	ran        atomic.Bool
}

// maxWaiting bounds the decoded messages that wait for the core. Each may take a
// few MiB; what comes meanwhile waits undecoded at its link.
const maxWaiting = 8

// errStopped is returned to who asks the core when it has stopped.
var errStopped = errors.New("replication has stopped")

// New returns a Replicator that does nothing yet.
func New(o Options) (*Replicator, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	met, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("replication metrics: %w", err)
	}
	r := &Replicator{
		opts: o, log: o.Logger.With("component", "replication"), met: met,
		codec: NewCodec(o.Prefix, o.Secret), started: o.Millis(),
		events: make(chan func(*Core), maxWaiting), linkState: make(chan struct{}, 1), epochs: make(chan struct{}, 1),
		ended: make(chan struct{}), serving: newSeats(o.MaxServed),
	}
	r.codec.own = o.Replica.Instance()
	r.core = newCore(CoreOptions{
		NodeID: o.NodeID, Address: o.Address, Instance: o.Replica.Instance(), Started: r.started,
		Params: o.Params, DiscoveryInterval: o.DiscoveryInterval, Millis: o.Millis, Wall: o.Wall,
		Drift:  func() int64 { return o.MaxDrift().Milliseconds() },
		Closed: o.Closed, Report: o.Report, Rand: mathrand.Float64, Repair: o.Repairs,
		Volume: o.Volume, Received: o.Received,
	}, o.Replica, met, r.log)
	r.snapshot.Store(&Status{Instance: o.Replica.Instance(), Reasons: []string{"replication has not started"}})
	if o.Registerer != nil {
		if err := o.Registerer.Register(newGauges(r.Status)); err != nil {
			return nil, fmt.Errorf("replication metrics: %w", err)
		}
	}
	return r, r.makeLinks()
}

// complete checks the options and fills in what has a default.
func (o Options) complete() (Options, error) {
	var errs []error
	if !address.IsNodeID(o.NodeID) {
		errs = append(errs, fmt.Errorf("node_id %q is not 1 to 64 of A-Z a-z 0-9 . _ -", o.NodeID))
	}
	if o.Prefix == "" {
		errs = append(errs, errors.New("topic prefix is empty"))
	}
	if o.Replica == nil {
		errs = append(errs, errors.New("no replica"))
	}
	if o.DiscoveryInterval <= 0 {
		o.DiscoveryInterval = time.Minute
	}
	if o.MaxServed <= 0 {
		o.MaxServed = 4
	}
	if o.MQTT.ClientID == "" {
		o.MQTT.ClientID = o.NodeID
	}
	if o.Millis == nil {
		o.Millis = func() int64 { return time.Now().UnixMilli() }
	}
	if o.MaxDrift == nil {
		o.MaxDrift = func() time.Duration { return time.Minute }
	}
	if o.Repairs == nil {
		sessions := o.Session != nil
		o.Repairs = func() bool { return sessions }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Resolve == nil {
		o.Resolve = net.DefaultResolver.LookupHost
	}
	return o, errors.Join(errs...)
}

// makeLinks makes a link and a publisher for each broker.
func (r *Replicator) makeLinks() error {
	topic := func(s string) string { return r.opts.Prefix + "/" + s }
	m := r.opts.MQTT
	for _, address := range m.Brokers {
		link, err := mqttlink.New(mqttlink.Options{
			BrokerURL: address, ClientID: m.ClientID, Username: m.Username, Password: m.Password,
			KeepAlive: m.KeepAlive, CleanSession: m.CleanSession,
			Subscriptions: []string{topic("updates"), topic("heads"), topic("nodes/+")},
			Will:          func() mqttlink.Message { return r.presence(false) },
			OnConnect:     func() []mqttlink.Message { return []mqttlink.Message{r.presence(true)} },
			MaxPacket:     MaxMessage,
			Handler:       r.onMessage,
			OnState:       func(mqttlink.State) { r.pokeLinks() },
			Silence:       3 * time.Second,
			Logger:        r.opts.Logger,
		})
		if err != nil {
			return fmt.Errorf("broker %s: %w", address, err)
		}
		r.links = append(r.links, link)
		r.publishers = append(r.publishers, &publisher{
			link: link, rep: r.opts.Replica, codec: r.codec, counter: &r.counter,
			instance: r.opts.Replica.Instance(), updates: topic("updates"), heads: topic("heads"),
			met: r.met, batches: NewBatcher(r.opts.Replica, 0), alone: r.alone.Load, paused: r.paused.Load, wake: make(chan struct{}, 1),
		})
	}
	return nil
}

// presence returns this node's retained message, which says when it was made.
func (r *Replicator) presence(up bool) mqttlink.Message {
	instance := r.opts.Replica.Instance()
	body := protocol.EncodeCBOR(&Presence{
		Instance: instance, NodeID: r.opts.NodeID, Address: r.opts.Address,
		Version: r.opts.Version, Started: r.started, Up: up, At: r.opts.Millis(), Volume: r.opts.Volume,
	})
	return mqttlink.Message{
		Topic:    r.opts.Prefix + "/nodes/" + r.opts.NodeID,
		Payload:  r.codec.Seal(KindPresence, instance, r.counter.Add(1), body),
		Retained: true,
	}
}

// hello returns this node's hello with a new nonce.
func (r *Replicator) hello() *protocol.PeerHello {
	nonce := make([]byte, protocol.PeerNonceLen)
	rand.Read(nonce) // never fails
	return &protocol.PeerHello{
		Version: protocol.PeerVersion, NodeID: r.opts.NodeID, Instance: r.opts.Replica.Instance(),
		Prefix: r.opts.Prefix, Address: r.opts.Address, Nonce: nonce, Started: r.started,
		Params: r.opts.Params, Secret: len(r.opts.Secret) > 0, Volume: r.opts.Volume,
	}
}

// onMessage takes in a message of a broker. It blocks while the core is behind;
// the link then drops what its queue cannot hold.
func (r *Replicator) onMessage(topic string, payload []byte) {
	fn, err := r.decode(strings.TrimPrefix(topic, r.opts.Prefix+"/"), payload)
	if err != nil {
		r.met.dropped.WithLabelValues(reasonOf(err)).Inc()
		r.quiet.warn(r.log, "message dropped", err, "topic", topic, "bytes", len(payload))
		return
	}
	if fn == nil {
		return
	}
	select {
	case r.events <- fn:
	case <-r.ended:
	}
}

// decode returns what a message has the core do; nil for nothing.
func (r *Replicator) decode(topic string, payload []byte) (func(*Core), error) {
	node, isNode := strings.CutPrefix(topic, "nodes/")
	if isNode && len(payload) == 0 {
		return nil, nil // a retained message that somebody removed
	}
	m, err := r.codec.Open(payload)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Kind == KindBatch && topic == "updates":
		if m.Instance == r.opts.Replica.Instance() {
			return nil, nil
		}
		b, err := DecodeBatch(m)
		return func(c *Core) { c.OnBatch(b) }, err
	case m.Kind == KindHead && topic == "heads":
		h, err := DecodeHead(m.Body)
		if err == nil && (h.Instance != m.Instance || h.Counter == 0) {
			err = fmt.Errorf("%w: head of another instance", ErrMalformed)
		}
		return func(c *Core) { c.OnHead(h, ViaMQTT) }, err
	case m.Kind == KindAsk && topic == "heads":
		if m.Instance == r.opts.Replica.Instance() {
			return nil, nil
		}
		return (*Core).OnAsk, nil
	case m.Kind == KindPresence && isNode:
		p, err := DecodePresence(m.Body)
		if err == nil && (p.Instance != m.Instance || p.NodeID != node) {
			err = fmt.Errorf("%w: presence of another node", ErrMalformed)
		}
		return func(c *Core) { c.OnPresence(p, m.Counter) }, err
	}
	return nil, fmt.Errorf("%w: kind %d on this topic", ErrMalformed, m.Kind)
}
