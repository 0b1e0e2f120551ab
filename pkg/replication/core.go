package replication

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// CoreOptions configure a Core. All functions are called by the goroutine that
// calls the Core, and must not block.
type CoreOptions struct {
	NodeID            string
	Address           string // host:port where this node can be dialled
	Instance          uint64 // not 0
	Started           int64  // Unix milliseconds
	Params            protocol.PeerParams
	DiscoveryInterval time.Duration       // between two look-ups of a name
	Millis            func() int64        // the clock, Unix milliseconds
	Wall              func() int64        // what the machine's own clock reads, for heads; nil: Millis
	Drift             func() int64        // limit of clock drift, milliseconds
	Closed            func() Closed       // what is known of closed epochs; nil: they close by the clock and have no roots
	Report            func(string, int64) // takes a peer's clock reading, Unix milliseconds; may be nil
	Rand              func() float64      // in [0, 1), for jitter
	Repair            func() bool         // whether sessions run now: what a log has lost need not be copied whole; nil: never
	Volume            uint64              // random number of the directory that keeps this node's data; 0: none does
	Received          []journal.Mark      // what was received before the start, whose entries the replica holds
	Log               *slog.Logger        // nil: no log
}

// Closed is what is known of closed epochs. The three belong to one moment.
type Closed struct {
	Sealed  int64       // newest epoch of which nothing more is stamped here
	Drained uint64      // position in the log of changes up to which the roots cover it
	Epochs  []EpochHead // the last ones with their roots, newest first, at most four, without marks
}

// Core decides; it has no clock, socket or goroutine. Inputs are calls, each
// after SetNow; outputs are Actions, which the caller takes and carries out after
// each input. It is for one goroutine. The package comment shows the order of
// calls.
type Core struct {
	set CoreOptions
	rep Replica
	met *metrics
	log *slog.Logger

	now       time.Duration // since the start
	vec       *vector.Vector
	roots     rootGuard
	paused    bool            // by an operator
	shut      map[string]bool // sources for whose sake nothing is taken in
	asked     time.Duration   // when peers were last asked for heads
	peers     map[uint64]*peer
	hosts     map[string]*host         // by name
	endpoints map[string]*endpoint     // by address
	deferred  map[uint64]postponed     // by instance: the first one of each
	wants     map[uint64]*want         // by origin
	pulling   map[uint64]string        // by origin: the address it is pulled from
	rivals    map[uint64]*rival        // by instance: others with this node_id
	active    map[uint64]time.Duration // by instance: when something of it was last received
	pending   map[uint64]adoption      // by instance: of a session that its head does not show yet

	counter  uint64 // of heads
	lastHead time.Duration
	headDue  bool // a head was asked for
	linksUp  int

	start    resumption
	ready    bool
	pulled   bool          // a pull of everything has succeeded, or there need not be one
	whole    string        // address of the pull of everything under way
	answered time.Duration // when a peer last answered or called; never: none did
	progress time.Duration // when a pull of the start last brought something
	echo     bool          // an own head came back, so retained messages came before
	solo     bool          // ready, and no peer is alive
	dialing  int           // dials under way
	leaving  *leaving
	told     map[string]bool // what was logged once

	out []Action
}

// ActionKind says what a Core wants done.
type ActionKind uint8

// What a Core wants done.
const (
	ActHead     ActionKind = iota // publish Head
	ActDial                       // exchange heads with Addr, pull what PullFrom then asks for, and call OnDialEnded
	ActResolve                    // look up the name Addr and call OnResolved
	ActReadOnly                   // take no more client writes, because of Why
	ActStop                       // end with ErrDuplicateNodeID
	ActAsk                        // publish a message of KindAsk, without a body
)

// Action is one thing that a Core wants done.
type Action struct {
	Kind ActionKind
	Addr string // host:port: of ActDial with an IP address, of ActResolve as configured
	Head []byte // body of a head
	Why  string // for a person
}

// NewCore returns a core at time 0 that knows of nobody: AddHost names whom to
// look for.
func NewCore(o CoreOptions, rep Replica) *Core {
	met, err := newMetrics(nil)
	if err != nil {
		panic(err) // nothing is registered
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return newCore(o, rep, met, o.Log)
}

func newCore(set CoreOptions, rep Replica, met *metrics, log *slog.Logger) *Core {
	if set.Wall == nil {
		set.Wall = set.Millis
	}
	if set.Repair == nil {
		set.Repair = func() bool { return false }
	}
	c := &Core{
		set: set, rep: rep, met: met, log: log,
		vec: vector.New(), peers: make(map[uint64]*peer),
		hosts: make(map[string]*host), endpoints: make(map[string]*endpoint),
		deferred: make(map[uint64]postponed), wants: make(map[uint64]*want),
		pulling: make(map[uint64]string), rivals: make(map[uint64]*rival), active: make(map[uint64]time.Duration), pending: make(map[uint64]adoption),
		roots: newRootGuard(), asked: never, lastHead: never, answered: never, progress: never, told: make(map[string]bool),
		shut: make(map[string]bool),
	}
	c.resume(set.Received)
	c.set.Received = nil
	return c
}

// SetNow sets the time since the start, which never goes back. It comes before
// every input.
func (c *Core) SetNow(now time.Duration) { c.now = now }

func (c *Core) emit(a Action) { c.out = append(c.out, a) }

// Take returns the actions that have come up since the last call.
func (c *Core) Take() []Action {
	out := c.out
	c.out = nil
	return out
}

// once logs a message that would otherwise be repeated for ever.
func (c *Core) once(key, msg string, args ...any) {
	if !c.told[key] && len(c.told) < maxPeers {
		c.told[key] = true
		c.log.Warn(msg, args...)
	}
}

// Tick lets time pass; to be called after SetNow at least every 100 ms.
func (c *Core) Tick() {
	c.readOwn()
	c.dropDue()
	c.dropPending()
	epochs := c.closed().Epochs // not all are there under overload
	c.vec.Retain(min(epochs[0].Epoch-keptEpochs+1, epochs[len(epochs)-1].Epoch))
	c.tellPeers()
	c.forget()
	c.step()
	c.judgeSolo()
}

// step does what time or an input made possible.
func (c *Core) step() {
	if since := c.now - c.lastHead; since >= c.headEvery() || since >= headGap && (c.headDue || c.rootIsNew()) {
		c.publishHead()
	}
	c.assess()
	c.plan()
	c.exchange()
	c.judgeReady()
	c.leave()
}

// readOwn brings the own entry of the vector up to date. Own changes have no
// gaps, so where they end in each epoch is all there is to know.
func (c *Core) readOwn() {
	me := c.set.Instance
	c.rep.OwnMarks(func(seq uint64, clock hlc.Timestamp) { c.vec.Adopt(me, vector.Mark{Seq: seq, HLC: clock}) })
}

// HeadNow returns the body of a new head, for a link.
func (c *Core) HeadNow() []byte { return EncodeHead(c.head()) }

// Held returns the prefixes of what was received, own changes included, by
// ascending instance: the vector of an answer to a pull.
func (c *Core) Held() []protocol.VectorItem {
	c.readOwn()
	return vectorItems(c.vec)
}

// Serve returns Held for the answer to a pull. What the peer lacks and no log of this
// node has is left to a session, if the peer allows that; and what a session reached
// counts only as far as heads name it, so they do that for a while, though nothing of
// it came lately.
func (c *Core) Serve(pull *protocol.PeerPull) []protocol.VectorItem {
	held := c.Held()
	if !pull.Repair {
		return held
	}
	theirs := make(map[uint64]uint64, len(pull.Vector))
	for _, it := range pull.Vector {
		theirs[it.Instance] = it.Seq
	}
	for _, it := range held {
		if it.Seq > theirs[it.Instance] {
			c.touch(it.Instance)
		}
	}
	return held
}

// head returns a new head.
func (c *Core) head() *Head {
	epochs := c.epochsTold()
	c.counter++
	c.met.headsOut.Inc()
	h := &Head{
		NodeID: c.set.NodeID, Instance: c.set.Instance, Started: c.set.Started, Counter: c.counter,
		Wall: c.set.Wall(), Last: c.vec.Prefix(c.set.Instance), Greatest: c.rep.Greatest(),
		Params: c.set.Params, Address: c.set.Address, Epochs: epochs,
		Peers: c.peerAddresses(), Paused: c.paused, Shut: len(c.shut) > 0, Volume: c.set.Volume,
	}
	h.Deferred = c.deferredList()
	c.fillVector(h)
	return h
}

// publishHead publishes a head.
func (c *Core) publishHead() {
	c.lastHead, c.headDue = c.now, false
	h := c.head()
	c.roots.told = newestRoot(h.Epochs)
	c.emit(Action{Kind: ActHead, Head: EncodeHead(h)})
}

// RequestHead asks for a head at once, that is within 50 ms.
func (c *Core) RequestHead() {
	c.headDue = true
	c.step()
}

// RequestHeads asks all peers for a head at once, at most twenty times a second:
// by the brokers, and on links those that no broker reaches.
func (c *Core) RequestHeads() {
	if c.now-c.asked < headGap {
		return
	}
	c.asked = c.now
	c.emit(Action{Kind: ActAsk})
	for _, e := range c.endpointsByAddr() {
		p := c.peers[e.instance]
		if p != nil && !e.self && !e.busy && c.now >= e.next && (c.linksUp == 0 || c.now-p.heardMQTT > mqttSilence) {
			c.dial(e)
		}
	}
}

// OnAsk takes in that a node asks for heads.
func (c *Core) OnAsk() { c.RequestHead() }

// SetEnabled pauses replication, or lets it go on: while it is paused no batch is
// taken in and no pull is made, and heads say so. What was missed counts as a gap
// afterwards. Publishing and serving pulls are the caller's to stop.
func (c *Core) SetEnabled(on bool) {
	c.paused = !on
	c.headDue = true
	c.step()
}

// SetIntake stops taking in changes of others for the sake of a source, as one that
// sees the disk fill, or lets that go on. Unlike SetEnabled it leaves alone what this
// node gives. It goes on when no source has stopped it and nobody has paused it.
func (c *Core) SetIntake(source string, on bool) {
	if on {
		delete(c.shut, source)
	} else {
		c.shut[source] = true
	}
	c.headDue = true
	c.step()
}

// takesNothing reports whether no change of others is taken in at present.
func (c *Core) takesNothing() bool { return c.paused || len(c.shut) > 0 }

// OnLinks takes in how many brokers are connected.
func (c *Core) OnLinks(up int) {
	c.headDue = c.headDue || up > c.linksUp
	c.linksUp = up
	c.step()
}

// OnBatch merges a batch that came by MQTT.
func (c *Core) OnBatch(b *Batch) {
	if b.Instance == c.set.Instance || c.takesNothing() {
		return
	}
	p := c.peer(b.Instance)
	if p == nil {
		c.met.dropped.WithLabelValues("peer").Inc()
		return
	}
	p.heard, p.heardMQTT = c.now, c.now
	gap := b.First > c.vec.Prefix(b.Instance).Seq+1
	r := c.merge(b.Changes)
	p.note(b.Instance, vector.Mark{Seq: b.Last(), HLC: r.newest})
	if !gap && !r.stub {
		return
	}
	c.assess()
	if w := c.wants[b.Instance]; w != nil {
		w.urgent = true
	}
	c.plan()
}

// merged says what became of a run of changes.
type merged struct {
	fresh  int  // recorded in the vector, or merged without a place
	stub   bool // a stub was among them whose change is missing
	newest hlc.Timestamp
	late   bool  // something was deferred
	due    int64 // when the last of that is due, Unix milliseconds
}

// merge offers changes to the replica in their order and records their places.
func (c *Core) merge(changes []protocol.DecodedChange) (r merged) {
	var applied, lost, known, duplicate, deferred int
	oldest, newestLoose := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range changes {
		ch := &changes[i]
		if ch.Origin == c.set.Instance {
			continue
		}
		if ch.Seq != 0 && c.vec.Contains(ch.Origin, ch.Seq) {
			duplicate++
			continue
		}
		if ch.Stub {
			r.stub = true
			continue
		}
		r.newest = max(r.newest, ch.Entry.Version.HLC)
		switch c.rep.Apply(&ch.Change) {
		case kv.Deferred:
			deferred++
			r.due = max(r.due, c.deferChange(&ch.Change))
			r.late = true
			continue
		case kv.Applied:
			applied++
		case kv.Lost:
			lost++
		default:
			known++
		}
		c.record(&ch.Change)
		r.fresh++
		epoch := ch.Entry.Version.Epoch()
		oldest = min(oldest, epoch)
		if ch.Seq == 0 {
			newestLoose = max(newestLoose, epoch)
		}
	}
	if r.fresh > 0 {
		c.mergedFrom(oldest, newestLoose)
	}
	c.met.applied.Add(float64(applied))
	c.met.lost.Add(float64(lost))
	c.met.known.Add(float64(known))
	c.met.duplicate.Add(float64(duplicate))
	c.met.deferred.Add(float64(deferred))
	return r
}

// record notes the place of a change that was merged.
func (c *Core) record(ch *kv.Change) {
	if ch.Seq == 0 {
		return
	}
	c.touch(ch.Origin)
	if !c.room(ch.Origin) || c.vec.Add(ch.Origin, ch.Seq, ch.Entry.Version.HLC) == vector.Nowhere {
		c.met.overflow.Inc()
		c.once(fmt.Sprintf("spans %x", ch.Origin), "too many gaps or origins at once, what is not recorded will be fetched again",
			"origin", fmt.Sprintf("%016x", ch.Origin))
	}
}

// maxDeferred bounds the deferrals, so that a head can tell of them all.
const maxDeferred = 1024

// postponed is a deferral and when it was noted.
type postponed struct {
	Deferred
	noted time.Duration
}

// deferChange notes that a change counts as not received until it is due, which
// it returns, in Unix milliseconds.
func (c *Core) deferChange(ch *kv.Change) int64 {
	due := ch.Entry.Version.HLC.Millis() - c.set.Drift()
	d, there := c.deferred[ch.Origin]
	if there && (d.Seq != 0 && d.Seq <= ch.Seq || ch.Seq == 0 && d.Due <= due) {
		return due
	}
	if !there && len(c.deferred) >= maxDeferred {
		return due // it is fetched again and again, ever more slowly
	}
	if !there {
		c.log.Warn("change from the future put off", "origin", fmt.Sprintf("%016x", ch.Origin),
			"seq", ch.Seq, "due", time.UnixMilli(due).UTC())
	}
	c.deferred[ch.Origin] = postponed{Deferred{Instance: ch.Origin, Seq: ch.Seq, Due: due}, c.now}
	return due
}

// dropDue forgets deferrals that are due, so that gap repair fetches them, and
// old ones, so that it looks whether they are still there.
func (c *Core) dropDue() {
	now := c.set.Millis()
	for id, d := range c.deferred {
		if d.Due <= now || c.now-d.noted > forgetAfter || d.Seq != 0 && c.vec.Contains(id, d.Seq) {
			delete(c.deferred, id)
		}
	}
}
