package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
	"merklekv/pkg/store"
)

const (
	tickEvery = 100 * time.Millisecond
	maxDrift  = 60_000 // milliseconds
	grace     = 3600   // of tombstones, epochs
	closeTail = 100    // milliseconds from the end of an epoch until it is closed
)

var params = protocol.PeerParams{EpochMillis: hlc.MillisPerEpoch, HashID: merkle.HashID, TombstoneGrace: grace}

// node is one node: the parts that a real one has, without its sockets, clock and
// goroutines.
type node struct {
	w    *world
	id   int
	name string
	addr string
	box  *machine
	ring int64
	disk *disk // nil: it keeps nothing over a restart

	// Of the present start.
	life     int // counts starts; what was meant for an earlier one is dropped
	up       bool
	pause    time.Duration // the process stands still until then
	born     time.Duration
	started  int64
	instance uint64
	median   *hlc.MedianClock
	clock    *hlc.Clock
	store    *store.Store
	dirty    *store.DirtyReader
	core     *replication.Core
	index    *antientropy.Index
	shown    replication.Closed // what is known of its epochs
	planner  *antientropy.Planner
	running  map[uint64]bool // sessions, by the peer's instance
	batches  *replication.Batcher
	ready    bool

	connected  bool // it and the broker know of each other
	will       *message
	counter    uint64 // of messages
	publishing bool
	claims     claims
	waiters    []waiter // by ticket
	flushing   bool     // a group is being written
	syncing    bool     // what was written will be forced to the disk
}

// replica is a store that dumps in a fixed order.
type replica struct {
	*store.Store
	node *node
}

// Apply takes note of what is received.
func (r replica) Apply(c *kv.Change) kv.Outcome {
	outcome := r.Store.Apply(c)
	r.node.w.received(r.node, c, outcome)
	return outcome
}

// Dump passes the entries by name: a store's order is different in each process.
func (r replica) Dump(fn func(*kv.Entry) bool) {
	for _, e := range sortedDump(r.Store) {
		if !fn(&e) {
			return
		}
	}
}

func sortedDump(s *store.Store) []kv.Entry {
	var all []kv.Entry
	s.Dump(func(e *kv.Entry) bool {
		all = append(all, e.Clone())
		return true
	})
	slices.SortFunc(all, func(a, b kv.Entry) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), bytes.Compare(a.Facet, b.Facet))
	})
	return all
}

// source is what the index reads.
type source struct {
	*store.DirtyReader
	replica
}

// boot starts a node; what its disk holds is there.
func (n *node) boot() {
	w := n.w
	n.life++
	n.up, n.born, n.pause, n.ready, n.connected, n.will, n.publishing, n.shown = true, w.now, 0, false, false, nil, false, replication.Closed{}
	n.waiters, n.flushing, n.syncing = nil, false, false
	n.instance = w.rng.node.Uint64() | 1
	n.median = hlc.NewMedianClock(n.box.read)
	n.clock = hlc.NewClock(n.median.Millis, maxDrift)
	o := store.Options{Clock: n.clock, Instance: n.instance, RingBytes: n.ring}
	received := n.open(&o)
	s, err := store.New(o)
	if err != nil {
		w.fail("node %d does not start: %v", n.id, err)
		return
	}
	n.store, n.dirty, n.claims = s, s.NewDirtyReader(), newClaims()
	rep := replica{s, n}
	n.index = antientropy.NewIndex(source{n.dirty, rep}, grace, closeTail)
	n.index.Build(0)
	n.batches = replication.NewBatcher(rep, s.LogHead())
	n.started = n.millis()
	n.core = replication.NewCore(replication.CoreOptions{
		NodeID: n.name, Address: n.addr, Instance: n.instance, Started: n.started, Params: params,
		DiscoveryInterval: time.Minute, Millis: n.median.Millis, Wall: n.median.Wall, Drift: func() int64 { return maxDrift },
		Closed: n.closed, Report: n.median.Report, Rand: n.luck, Repair: func() bool { return true }, Volume: n.volume(), Received: received,
	}, rep)
	n.planner, n.running = antientropy.NewPlanner(n.instance, repairInterval, n.luck), make(map[uint64]bool)
	w.trace.note("boots", uint64(n.id), n.instance)
	n.call(func() {
		for _, peer := range w.nodes {
			if peer != n {
				n.core.AddHost(peer.addr, true)
			}
		}
	})
	w.net.linkChanged(n)
	n.tick()
	n.after(time.Duration(w.rng.node.Int64N(int64(planEvery))), n.plan)
}

// open takes up what the node's disk has kept, and returns the vector of it.
func (n *node) open(o *store.Options) []journal.Mark {
	if n.disk == nil {
		return nil
	}
	n.disk.open()
	n.disk.wake = n.flush
	n.clock.Raise(n.disk.bound)
	o.Journal, o.Bound = n.disk, n.disk
	return n.disk.Received()
}

// kill ends a node at once.
func (n *node) kill() {
	n.w.trace.note("dies", uint64(n.id))
	n.up = false
	n.life++
	n.dirty.Close()
	n.store.Close()
	n.store = nil
	if n.connected {
		n.connected = false
		n.w.net.depart(n)
	}
}

// luck is a number in [0, 1) that depends on the moment alone: a core may ask for
// several at once in any order.
func (n *node) luck() float64 {
	x := uint64(n.w.now)*0x9e3779b97f4a7c15 ^ n.instance
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64(x>>11) / (1 << 53)
}

// millis is the present for this node, Unix milliseconds.
func (n *node) millis() int64 { return n.median.Millis() }

// closed tells replication what the index was last seen to know.
func (n *node) closed() replication.Closed { return n.shown }

// show makes known what the index knows.
func (n *node) show() {
	c := replication.Closed{Sealed: n.index.Sealed(), Drained: n.index.Drained()}
	for _, r := range n.index.Roots() {
		e := replication.EpochHead{Epoch: r.Epoch, Count: uint64(r.Count)}
		if r.Told {
			e.Root = r.Root[:]
		}
		c.Epochs = append(c.Epochs, e)
	}
	n.shown = c
}

// after has something happen at this node in a while, unless it ends before. If
// it stands still by then, it happens when it goes on.
func (n *node) after(d time.Duration, fn func()) {
	life := n.life
	var fire func()
	fire = func() {
		switch {
		case n.life != life || !n.up:
		case n.pause > n.w.now:
			n.w.after(n.pause-n.w.now, fire)
		default:
			fn()
		}
	}
	n.w.after(d, fire)
}

// call lets the core take something in at the present time, and does what it then
// wants done.
func (n *node) call(fn func()) {
	n.core.SetNow(n.w.now - n.born)
	fn()
	n.perform()
}

func (n *node) perform() {
	actions := n.core.Take()
	slices.SortStableFunc(actions, func(a, b replication.Action) int { // look-ups come up in no order
		if a.Kind == replication.ActResolve && b.Kind == replication.ActResolve {
			return cmp.Compare(a.Addr, b.Addr)
		}
		return 0
	})
	for _, a := range actions {
		switch a.Kind {
		case replication.ActHead:
			n.publish() // a head follows the changes that it tells of
			m := n.w.net.pack(n, replication.KindHead, a.Head)
			n.w.told(n, m.head)
			n.w.net.publish(n, m)
		case replication.ActResolve:
			n.after(time.Millisecond, func() { n.call(func() { n.core.OnResolved(a.Addr, []string{a.Addr}) }) })
		case replication.ActDial:
			n.w.dial(n, a.Addr)
		case replication.ActAsk:
			n.w.net.publish(n, n.w.net.pack(n, replication.KindAsk, nil))
		case replication.ActReadOnly, replication.ActStop:
			n.w.fail("node %d gives way to nobody: %s", n.id, a.Why)
		}
	}
}

// tick lets time pass in all parts.
func (n *node) tick() {
	if n.ready { // before, nobody has told it the time: see antientropy.Options.Timely
		n.index.Advance(n.millis())
		n.show()
	}
	n.call(n.core.Tick)
	if !n.ready && n.core.Status().Ready {
		n.ready = true
		n.w.trace.note("ready", uint64(n.id))
		n.join()
	}
	n.after(n.w.tickEvery, n.tick)
}

// join writes the node's member entry.
func (n *node) join() {
	before := n.store.LogHead()
	ticket, err := n.store.SetReserved(antientropy.MemberFacet(n.name), antientropy.EncodeMember(n.instance, n.addr))
	if err != nil {
		n.after(500*time.Millisecond, n.join)
	}
	n.made(before, ticket)
	n.publishSoon()
}

// hear takes in a message that came through the broker.
func (n *node) hear(m *message) {
	n.w.trace.note("hears", uint64(n.id), m.instance, m.counter)
	n.call(func() {
		switch {
		case m.batch != nil && m.instance != n.instance:
			n.core.OnBatch(m.batch)
		case m.head != nil:
			n.core.OnHead(m.head, replication.ViaMQTT)
		case m.presence != nil:
			n.core.OnPresence(m.presence, m.counter)
		case m.asks && m.instance != n.instance:
			n.core.OnAsk()
		}
	})
}

// publish sends own changes to the broker.
func (n *node) publish() {
	if !n.connected {
		n.batches.Skip()
		return
	}
	for body, changes := n.batches.Next(); changes > 0; body, changes = n.batches.Next() {
		n.w.net.publish(n, n.w.net.pack(n, replication.KindBatch, body))
	}
}

// publishSoon sends own changes in a moment, with those that come till then.
func (n *node) publishSoon() {
	if n.publishing {
		return
	}
	n.publishing = true
	n.after(2*time.Millisecond, func() {
		n.publishing = false
		n.publish()
	})
}

func (n *node) hello() *protocol.PeerHello {
	return &protocol.PeerHello{
		Version: protocol.PeerVersion, NodeID: n.name, Instance: n.instance, Started: n.started, Address: n.addr, Params: params,
		Volume: n.volume(),
	}
}

// volume is the number of the node's disk, 0 if it has none.
func (n *node) volume() uint64 {
	if n.disk == nil {
		return 0
	}
	return uint64(n.id) + 1
}

func (n *node) String() string { return fmt.Sprintf("node %d (%s, %016x)", n.id, n.name, n.instance) }
