package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/replication"
)

// world is one run: some nodes, what lies between them, and what happens to them.
type world struct {
	loop
	trace   trace
	seed    uint64
	prof    *profile
	plan    plan
	rng     streams
	net     *network
	nodes   []*node
	history *history
	heads   []*replication.Head // by node: the last one that it made
	count   counts
	phantom map[phantom]bool

	healed    time.Duration
	calm      bool     // nobody writes and nothing goes wrong any more
	healing   []func() // ends of faults
	tickEvery time.Duration
	broken    string // what is wrong, "" as long as nothing is
}

// streams are sources of randomness that do not depend on each other, so that
// more of one thing does not change what the others do.
type streams struct{ plan, net, work, fault, node, disk *rand.Rand }

// counts is what a run has to tell in numbers.
type counts struct {
	operations, writes, refused, early   uint64 // early: writes before the first fault
	faults, pulls, fullCopies, linkBytes uint64
	sessions, sessionBytes, useless      uint64
	repaired, phantoms                   uint64
	forgotten, lost                      uint64 // changes that a crash took from a disk; acknowledged ones that nobody has
	checks, verdicts                     uint64 // verdicts: EQUAL was said before the end
}

// result is what became of a run.
type result struct {
	seed    uint64
	profile string
	hash    uint64
	broken  string // "" when all is as it should be
	invalid string // why it shows nothing, "" when it shows something
	virtual time.Duration
	cost    time.Duration
	events  uint64
	count   counts
	net     [3]uint64 // messages, bytes, lost
	lags    []time.Duration
}

func newWorld(seed uint64, prof *profile, out io.Writer) *world {
	stream := func(i uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, i)) }
	w := &world{
		seed: seed, prof: prof, tickEvery: tickEvery, phantom: make(map[phantom]bool),
		rng: streams{plan: stream(1), net: stream(2), work: stream(3), fault: stream(4), node: stream(5), disk: stream(6)},
	}
	w.trace = trace{hash: fnvOffset, out: out, loop: &w.loop}
	w.plan = prof.draw(w.rng.plan)
	w.plan.drawDisks(prof, w.rng.disk)
	w.trace.say("profile %s, seed %d: %v", prof.name, seed, &w.plan)
	w.net = &network{w: w, codec: replication.NewCodec("sim", nil)}
	w.history = newHistory(w.plan.nodes)
	w.heads = make([]*replication.Head, w.plan.nodes)
	for i := range w.plan.nodes {
		n := &node{
			w: w, id: i, name: fmt.Sprintf("n%d", i+1), addr: fmt.Sprintf("10.0.0.%d:7878", i+1), ring: w.plan.rings[i],
			box: &machine{loop: &w.loop, skew: w.plan.skews[i]},
		}
		if w.rng.plan.IntN(2) == 0 || prof.disks {
			n.disk = newDisk(w.plan.policies[i], w.time)
		}
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *world) time() time.Duration { return w.now }

// fail records the first thing that is wrong; the run ends.
func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf("at %v: ", w.now.Round(time.Millisecond)) + fmt.Sprintf(format, args...)
		w.trace.say("WRONG %s", w.broken)
	}
}

func (w *world) wrong() bool { return w.broken != "" }

// simulate runs one seed of a profile. out, if not nil, gets all that happens.
func simulate(seed uint64, prof *profile, out io.Writer) result {
	begin := time.Now()
	w := newWorld(seed, prof, out)
	w.live()
	r := result{
		seed: seed, profile: prof.name, hash: w.trace.hash, broken: w.broken, virtual: w.now, events: w.ran,
		count: w.count, net: [3]uint64{w.net.messages, w.net.bytes, w.net.lost}, lags: w.history.lags,
	}
	if w.count.early < minEarly {
		r.invalid = fmt.Sprintf("only %d writes before the first fault", w.count.early)
	}
	w.close()
	r.cost = time.Since(begin)
	return r
}

// close releases what the nodes hold.
func (w *world) close() {
	for _, n := range w.nodes {
		if n.up {
			n.store.Close()
			n.up = false
		}
	}
}

// minEarly is how many writes there have to be before the first fault, for a run
// to show anything.
const minEarly = 10

// live is the course of a run: load and faults, healing, quiet, judgement.
func (w *world) live() {
	w.begin()
	w.after(w.plan.first, func() {
		w.count.early = w.count.writes
		w.misfortune()
	})
	w.runUntil(w.plan.chaos, w.wrong)
	w.heal()
	w.end()
}

// begin starts all nodes and their writers.
func (w *world) begin() {
	for _, n := range w.nodes {
		n.boot()
		n.startWriters()
	}
	w.after(checkEvery, w.check)
}

// end waits until all is equal, sees that it stays so, and judges the outcome.
func (w *world) end() {
	w.settle()
	if !w.wrong() {
		w.watch()
	}
	if !w.wrong() {
		w.judge()
	}
}

// heal ends all that goes wrong. What it has brought about stays.
func (w *world) heal() {
	w.trace.say("heals")
	w.calm, w.net.calm, w.healed = true, true, w.now
	for _, end := range w.healing {
		end()
	}
	w.healing = nil
	for _, n := range w.nodes {
		n.box.mend()
		n.pause = 0
	}
}

// settle waits until all nodes are equal, and are so for a while, for as long as
// what was put off may take and a minute more.
func (w *world) settle() {
	limit, since := w.now+settleLimit, w.now
	for !w.wrong() {
		w.runUntil(w.now+500*time.Millisecond, w.wrong)
		w.checkVerdicts()
		why := w.unequal()
		if why != "" {
			since = w.now
		}
		if w.now-since >= calmAfter {
			w.trace.say("all are equal")
			return
		}
		if due := w.lastDue(); due > 0 {
			limit = max(limit, w.now+min(due, time.Second)+settleLimit)
		}
		if w.now > limit {
			w.fail("not equal after %v: %s", settleLimit, why)
		}
	}
}

const settleLimit = 60 * time.Second

// lastDue returns how long it takes until the last deferred entry may be merged,
// and the newest epoch of any entry is over; not above 0 if that is past.
func (w *world) lastDue() time.Duration {
	var last int64
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		for _, d := range n.core.Status().Deferred {
			last = max(last, d.Due-n.millis())
		}
	}
	last = max(last, w.greatest().HLC.Millis()-began-w.now.Milliseconds())
	for _, n := range w.nodes {
		last = max(last, (n.index.Sealed()+1)*hlc.MillisPerEpoch-began-w.now.Milliseconds())
	}
	return time.Duration(last) * time.Millisecond
}

// calmAfter is how long all has to be equal: sessions that were due before find
// that out meanwhile.
const calmAfter = 2 * time.Second

// watch sees that a cluster in which all is equal stays so, and rests.
func (w *world) watch() {
	sessions := w.count.sessions
	w.runUntil(w.now+w.prof.quiet, w.wrong)
	if w.count.sessions > sessions {
		w.fail("%d sessions though all was equal", w.count.sessions-sessions)
	}
	if why := w.unequal(); why != "" && !w.wrong() {
		w.fail("equal no longer: %s", why)
	}
	w.equalEverywhere()
	w.checkClocks()
}

// checkClocks sees that all nodes know the time, once what they heard of wrong
// clocks is too old to count.
func (w *world) checkClocks() {
	for _, n := range w.nodes {
		off := n.millis() - began - w.now.Milliseconds()
		if w.now > w.healed+hlc.SampleAge+2*time.Second && max(off, -off) > 1000 {
			w.fail("the time of node %d is off by %d ms though all clocks were set right", n.id, off)
		}
	}
}

// received notes that a node was offered a change.
func (w *world) received(n *node, c *kv.Change, outcome kv.Outcome) {
	w.trace.note("merges", uint64(n.id), uint64(c.Entry.Version.HLC), c.Seq, uint64(outcome))
	if outcome != kv.Deferred && !w.history.receive(n.id, c.Entry.Version, w.now) {
		w.fail("node %d was offered %v of key %q, which nobody wrote", n.id, c.Entry.Version, c.Entry.Key)
	}
}
