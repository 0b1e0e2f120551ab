package replication

import (
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

var (
	simSeeds = flag.Int("sim.seeds", 25, "simulated runs")
	simSeed  = flag.Uint64("sim.seed", 0, "run only this seed")
)

const simEpoch = 1_800_000_000_000 // Unix milliseconds at which a run begins

// world is some cores, a network that misbehaves, and a virtual time.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Duration
	queue  simQueue
	serial int
	nodes  []*simNode
	codec  *Codec
	broker bool
	cut    map[[2]int]bool // pairs without TCP
	away   map[int]bool    // nodes that no broker reaches
	loss   float64
	dup    float64
	delay  time.Duration
	quiet  bool
	rooted bool   // nodes have an index, and sessions can be run
	last   uint64 // instance

	changes map[[2]uint64]kv.Entry // every change ever made, by origin and sequence
}

type simNode struct {
	id      int
	core    *Core
	rep     *mapReplica
	born    time.Duration
	skew    int64 // milliseconds
	counter uint64
	pos     uint64 // published up to
	dead    bool
	closed  Closed // with rooted
	synced  *kept  // what a crash leaves of it
}

type simEvent struct {
	at     time.Duration
	serial int
	fn     func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].serial < q[j].serial
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func (w *world) after(d time.Duration, fn func()) {
	w.serial++
	heap.Push(&w.queue, simEvent{w.now + d, w.serial, fn})
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) jitter() time.Duration { return time.Duration(w.rng.Int64N(int64(w.delay) + 1)) }

func newWorld(t *testing.T, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{
		t: t, rng: rng, codec: NewCodec("sim", []byte("s")), broker: true, cut: make(map[[2]int]bool), away: make(map[int]bool),
		loss: rng.Float64() * 0.3, dup: rng.Float64() * 0.5, delay: time.Duration(1+rng.IntN(2000)) * time.Millisecond,
		changes: make(map[[2]uint64]kv.Entry),
	}
	for i := range 3 {
		w.nodes = append(w.nodes, nil)
		skew := int64(rng.IntN(2000) - 1000)
		if rng.IntN(10) == 0 {
			skew = 90_000 // beyond what the others accept
		}
		w.boot(i, skew, []int{20, 200, 100_000}[rng.IntN(3)])
	}
	return w
}

// boot starts a node without any data.
func (w *world) boot(id int, skew int64, ring int) { w.begin(id, skew, ring, &kept{}) }

// begin starts a node with what was kept.
func (w *world) begin(id int, skew int64, ring int, k *kept) {
	w.last++
	n := &simNode{id: id, born: w.now, skew: skew}
	millis := func() int64 { return simEpoch + w.now.Milliseconds() + skew }
	n.rep = newMapReplica(w.last, millis, ring)
	n.rep.load(k)
	n.synced = k
	met, err := newMetrics(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	options := CoreOptions{
		NodeID: fmt.Sprintf("n%d", id), Address: simAddr(id), Instance: w.last, Started: millis(), Params: testParams,
		DiscoveryInterval: time.Minute, Millis: millis, Drift: func() int64 { return 60_000 }, Rand: w.rng.Float64,
		Received: k.received,
	}
	if w.rooted {
		n.rep.record = true
		options.Repair, options.Closed = func() bool { return true }, func() Closed { return n.closedAt(millis()) }
	}
	n.core = newCore(options, n.rep, met, slog.New(slog.DiscardHandler))
	w.nodes[id] = n
	for i := range w.nodes {
		n.core.AddHost(simAddr(i), true)
	}
	n.core.linksUp = oneInt(w.broker && !w.away[id])
	w.perform(n)
	w.tick(n)
}

func oneInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func simAddr(id int) string { return fmt.Sprintf("10.0.0.%d:7878", id+1) }

func (w *world) tick(n *simNode) {
	if n.dead {
		return
	}
	w.call(n, n.core.Tick)
	w.publish(n)
	if w.chance(0.03) {
		n.synced = n.rep.keep()
	}
	w.after(tickEvery, func() { w.tick(n) })
}

// call lets a core do something at the present time.
func (w *world) call(n *simNode, fn func()) {
	if n.dead {
		return
	}
	n.core.now = w.now - n.born
	fn()
	w.perform(n)
}

func (w *world) perform(n *simNode) {
	for _, a := range n.core.Take() {
		switch a.Kind {
		case ActHead:
			w.broadcast(n, KindHead, a.Head)
		case ActResolve:
			w.after(time.Millisecond, func() { w.call(n, func() { n.core.OnResolved(a.Addr, []string{a.Addr}) }) })
		case ActDial:
			w.after(w.jitter()/4, func() { w.exchange(n, a.Addr) })
		default:
			w.t.Fatalf("unexpected action %v of node %d", a.Kind, n.id)
		}
	}
}

// publish sends what a node wrote since it last did.
func (w *world) publish(n *simNode) {
	if !w.broker || w.away[n.id] {
		n.pos = n.rep.LogHead()
		return
	}
	b := NewBatcher(n.rep, n.pos)
	for body, changes := b.Next(); changes > 0; body, changes = b.Next() {
		w.broadcast(n, KindBatch, body)
	}
	n.pos = b.Pos()
}

// broadcast sends a message to all by the broker, which loses, repeats and
// reorders.
func (w *world) broadcast(from *simNode, kind Kind, body []byte) {
	if !w.broker || w.away[from.id] {
		return
	}
	from.counter++
	message := w.codec.Seal(kind, from.rep.instance, from.counter, body)
	for i := range w.nodes {
		if w.away[i] {
			continue
		}
		for again := true; again; again = !w.quiet && w.chance(w.dup) {
			if !w.quiet && w.chance(w.loss) {
				continue
			}
			w.after(w.jitter(), func() { w.deliver(w.nodes[i], message) })
		}
	}
}

func (w *world) deliver(n *simNode, message []byte) {
	m, err := w.codec.Open(message)
	if err != nil {
		w.t.Fatal(err)
	}
	w.call(n, func() {
		if m.Kind == KindBatch {
			b, err := DecodeBatch(m)
			if err != nil {
				w.t.Fatal(err)
			}
			n.core.OnBatch(b)
			return
		}
		n.core.OnHead(w.head(m.Body), ViaMQTT)
	})
}

func (w *world) head(body []byte) *Head {
	h, err := DecodeHead(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

var errSim = errors.New("no connection")

// exchange is what a dial does, without sockets.
func (w *world) exchange(n *simNode, addr string) {
	var to *simNode
	for _, m := range w.nodes {
		if simAddr(m.id) == addr && !m.dead {
			to = m
		}
	}
	end := func(err error) { w.call(n, func() { n.core.OnDialEnded(addr, err) }) }
	if to == nil || w.cut[[2]int{min(n.id, to.id), max(n.id, to.id)}] || !w.quiet && w.chance(w.loss) {
		end(errSim)
		return
	}
	hello := func(s *simNode) *protocol.PeerHello {
		return &protocol.PeerHello{NodeID: s.core.set.NodeID, Instance: s.rep.instance, Started: s.core.set.Started, Address: s.core.set.Address}
	}
	var err error
	w.call(n, func() { err = n.core.OnHello(addr, hello(to)) })
	if err != nil {
		end(nil)
		return
	}
	w.call(to, func() { to.core.OnHello("", hello(n)) })
	ours, theirs := n.core.HeadNow(), to.core.HeadNow()
	toThem, toUs := w.relay(n, to), w.relay(to, n)
	w.call(to, func() {
		to.core.OnRelay(toThem)
		to.core.OnHead(w.head(ours), ViaTCP)
	})
	var pull *protocol.PeerPull
	w.call(n, func() {
		n.core.OnRelay(toUs)
		n.core.OnHead(w.head(theirs), ViaTCP)
		pull = n.core.PullFrom(addr, to.rep.instance)
	})
	if pull == nil {
		end(nil)
		return
	}
	w.after(w.jitter()/4, func() { end(w.serve(n, to, addr, pull)) })
}

// relay returns the heads that a node passes on to another one.
func (w *world) relay(from, to *simNode) []RelayedHead {
	body := from.core.Relay(to.rep.instance)
	if body == nil {
		return nil
	}
	heads, err := DecodeRelay(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return heads
}

// serve streams a pull's answer, which may break off after any frame.
func (w *world) serve(n, to *simNode, addr string, pull *protocol.PeerPull) error {
	if n.dead || to.dead {
		return errSim
	}
	mine := to.core.Serve(pull)
	st := new(PullState)
	s := NewAnswer(to.rep, mine, pull, func(payload ...[]byte) error {
		if !w.quiet && w.chance(w.loss) {
			return errSim
		}
		changes, err := protocol.DecodeEntries(slices.Concat(payload...), 0, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		w.call(n, func() { n.core.OnEntries(st, changes) })
		return nil
	})
	done, err := s.Run()
	if err != nil {
		return err
	}
	w.call(n, func() { n.core.OnPullDone(addr, to.rep.instance, st, done) })
	return nil
}

// run lets time pass.
func (w *world) run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		e := heap.Pop(&w.queue).(simEvent)
		w.now = e.at
		e.fn()
	}
	w.now = until
}

// mischief is one step of writing and breaking.
func (w *world) mischief() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch x := w.rng.IntN(1000); {
	case x < 10:
		w.broker = !w.broker
		for _, m := range w.nodes {
			w.call(m, func() { m.core.OnLinks(oneInt(w.broker)) })
		}
	case x < 25:
		a, b := w.rng.IntN(3), w.rng.IntN(3)
		pair := [2]int{min(a, b), max(a, b)}
		w.cut[pair] = !w.cut[pair]
	case x < 29 && w.survived(n):
		n.dead = true
		w.boot(n.id, n.skew, n.rep.ring)
	case x < 34 && w.survived(n):
		n.dead = true
		w.begin(n.id, n.skew, n.rep.ring, n.synced)
	case x < 40:
		n.dead = true
		w.begin(n.id, n.skew, n.rep.ring, n.rep.keep())
	default:
		for range 1 + w.rng.IntN(20) {
			n.rep.set(fmt.Sprintf("k%d", w.rng.IntN(200)), fmt.Appendf(nil, "%d", w.serial))
			last := n.rep.log[len(n.rep.log)-1]
			w.changes[[2]uint64{last.Origin, last.Seq}] = last.Entry
		}
	}
}

// survived reports whether all that a node wrote is somewhere else too, so that
// it may lose everything.
func (w *world) survived(n *simNode) bool {
	seq := n.rep.last.Seq
	for _, m := range w.nodes {
		if m != n && m.core.vec.Prefix(n.rep.instance).Seq >= seq && w.holds(m, n) {
			return true
		}
	}
	return false
}

// holds reports whether m has received all that n has.
func (w *world) holds(m, n *simNode) bool {
	for _, it := range vectorItems(n.core.vec) {
		if m.core.vec.Prefix(it.Instance).Seq < it.Seq {
			return false
		}
	}
	return true
}

// checkVectors fails when a vector claims a change that its replica lacks, or
// when a change was merged twice.
func (w *world) checkVectors() {
	for _, n := range w.nodes {
		for place, e := range w.changes {
			if place[0] == n.rep.instance || !n.core.vec.Contains(place[0], place[1]) {
				continue
			}
			held, ok := n.rep.entries[string(e.Key)]
			if !ok || held.Version.Less(e.Version) {
				w.t.Fatalf("at %v node %d claims change %d of %x and does not have it", w.now, n.id, place[1], place[0])
			}
		}
		for place, times := range n.rep.merges {
			if times > 1 {
				w.t.Fatalf("node %d merged change %d of %x %d times", n.id, place[1], place[0], times)
			}
			if n.rep.had.Contains(place[0], place[1]) {
				w.t.Fatalf("node %d merged change %d of %x, which it had before it started", n.id, place[1], place[0])
			}
		}
	}
}

// converged returns what is not as it should be at the end, "" if nothing.
func (w *world) converged() string {
	for i, n := range w.nodes {
		if d := n.rep.difference(w.nodes[0].rep); d != "" {
			return fmt.Sprintf("node %d and 0: %s", i, d)
		}
		if len(n.core.wants) > 0 || !n.core.ready {
			return fmt.Sprintf("node %d: %d gaps, ready %v", i, len(n.core.wants), n.core.ready)
		}
		if !slices.Equal(vectorItems(n.core.vec), vectorItems(w.nodes[0].core.vec)) {
			return fmt.Sprintf("vectors of %d and 0: %v and %v", i, vectorItems(n.core.vec), vectorItems(w.nodes[0].core.vec))
		}
	}
	return ""
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	for w.now < 30*time.Second {
		w.run(w.now + time.Duration(w.rng.IntN(100))*time.Millisecond)
		w.mischief()
		if w.rng.IntN(50) == 0 {
			w.checkVectors()
		}
	}
	w.quiet, w.broker = true, true
	clear(w.cut)
	for _, n := range w.nodes {
		w.call(n, func() { n.core.OnLinks(1) })
	}
	deadline := w.now + 150*time.Second // what was put off is due after 90
	for w.converged() != "" && w.now < deadline {
		w.run(w.now + time.Second)
	}
	w.checkVectors()
	if why := w.converged(); why != "" {
		t.Fatalf("not converged: %s", why)
	}
	w.checkNothingLost()
}

// checkNothingLost compares every key with the greatest version ever written.
func (w *world) checkNothingLost() {
	best := make(map[string]kv.Version)
	for _, e := range w.changes {
		if best[string(e.Key)].Less(e.Version) {
			best[string(e.Key)] = e.Version
		}
	}
	for key, v := range best {
		if got := w.nodes[0].rep.entries[key].Version; got != v {
			w.t.Fatalf("key %s holds %v, the greatest written is %v", key, got, v)
		}
	}
	for _, n := range w.nodes {
		for _, e := range n.core.head().Epochs {
			if e.Epoch > n.core.set.Millis()/hlc.MillisPerEpoch {
				w.t.Fatalf("epoch %d is not closed", e.Epoch)
			}
		}
	}
}

func TestSimulatedClusterConverges(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	for seed := uint64(1); seed <= uint64(*simSeeds); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { simulate(t, seed) })
	}
}
