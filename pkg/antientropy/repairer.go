package antientropy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// Link is a connection to a peer on which both have shown who they are.
type Link interface {
	// Peer returns who is at the other end.
	Peer() *protocol.PeerHello
	// Salt returns 32 bytes that both ends contributed to.
	Salt() [32]byte
	// Send sends one frame.
	Send(t protocol.FrameType, payload []byte) error
	// SendPaced sends one frame in pieces, each after a wait for leave to send so
	// many bytes.
	SendPaced(t protocol.FrameType, payload []byte, wait func(bytes int) error) error
	// Receive returns the next frame, which must be of a wanted type; a refusal is
	// returned as its *protocol.PeerError. The payload is valid until the next call.
	Receive(want ...protocol.FrameType) (protocol.FrameType, []byte, error)
	// In and Out return the bytes of frames in each direction so far.
	In() int64
	Out() int64
	// Close ends the connection; a Send or Receive that is under way fails.
	Close()
}

// Options configure a Repairer.
type Options struct {
	Instance uint64 // of this start of the node
	Source   Source
	Replica  Replica
	// Loaded has all that Source holds, if that was just loaded. It may be nil.
	Loaded *Loaded
	// Grace is for how long tombstones belong to the set, in epochs.
	Grace int64
	// Millis is the clock, in Unix milliseconds.
	Millis func() int64
	// Peers returns what is known of the peers now.
	Peers func() []PeerState
	// Connect dials a peer and swaps heads with it.
	Connect func(ctx context.Context, addr string) (Link, error)
	// Adopt is told that this node holds all that a peer held at an epoch, at which
	// the peer's root was this one.
	Adopt func(ctx context.Context, instance uint64, epoch int64, root merkle.Hash)
	// Timely reports whether Millis can be relied on: the node has heard what time it
	// is elsewhere, or is alone. Until then no epoch is closed: one that a wrong clock
	// ends would put this node's stamps ahead of everybody's. Nil: always.
	Timely func() bool
	// OnClosed is called when Closed has something new; it must not block. It may be
	// nil.
	OnClosed func()
	Limits   Limits

	Registerer prometheus.Registerer // nil: metrics are not exposed
	Logger     *slog.Logger          // nil: no log
}

// Limits are what can change while a Repairer runs.
type Limits struct {
	// Enabled allows sessions. Without it epochs are closed all the same.
	Enabled bool
	// Interval is how long a peer may go without being known to be equal.
	Interval time.Duration
	// Concurrent bounds the sessions at one time, started here or there; at least 1.
	Concurrent int
	// BytesPerSecond bounds what all sessions send; 0 is without a bound.
	BytesPerSecond int64
}

// Errors of sessions.
var (
	// ErrDisabled is returned when repair is switched off here.
	ErrDisabled = errors.New("repair is disabled here")
	// ErrBusy is returned when as many sessions run as may, or one with this peer.
	ErrBusy = errors.New("a session with this peer runs already, or as many as may")
)

// Repairer finds and repairs what replicas do not have in common. It closes
// epochs, decides when to run a session, and runs it.
type Repairer struct {
	opts  Options
	log   *slog.Logger
	met   *metrics
	start time.Time

	records records
	limiter *rate.Limiter
	closed  atomic.Pointer[Closed]
	limits  atomic.Pointer[Limits]
	working sync.WaitGroup // sessions that this node started by itself

	mu    sync.Mutex // guards index, but for its Sealed
	index *Index

	planMu  sync.Mutex // guards planner and running
	planner *Planner
	running map[uint64]bool // by the peer's instance
}

// Closed is what is known of closed epochs. All of it belongs to one moment.
type Closed struct {
	Sealed  int64  // newest epoch in which nothing more will be stamped here
	Drained uint64 // position in the log up to which the roots hold everything
	Roots   []EpochRoot
}

// closeAfter is how long after its end an epoch is closed, in milliseconds: what
// was written in its last moments is on its way for about so long.
const closeAfter = 100

// New returns a Repairer whose index is built from what the replica holds.
func New(o Options) (*Repairer, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timely == nil {
		o.Timely = func() bool { return true }
	}
	if o.OnClosed == nil {
		o.OnClosed = func() {}
	}
	met, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("repair metrics: %w", err)
	}
	r := &Repairer{
		opts: o, log: o.Logger.With("component", "antientropy"), met: met, start: time.Now(),
		limiter: rate.NewLimiter(rate.Inf, sendBurst), running: make(map[uint64]bool),
		index:   NewIndex(o.Source, o.Grace, closeAfter),
		planner: NewPlanner(o.Instance, o.Limits.Interval, rand.Float64),
	}
	r.SetLimits(o.Limits)
	r.build()
	r.publishLocked()
	return r, nil
}

// build makes the index, whatever the time: no epoch is closed before Run.
func (r *Repairer) build() {
	if r.opts.Loaded == nil {
		r.index.Build(0)
		return
	}
	r.index.BuildLoaded(r.opts.Loaded, 0)
	r.opts.Loaded = nil // it is large
}

// SetLimits puts new limits into force.
func (r *Repairer) SetLimits(l Limits) {
	l.Concurrent = max(1, l.Concurrent)
	r.limits.Store(&l)
	limit := rate.Inf
	if l.BytesPerSecond > 0 {
		limit = rate.Limit(l.BytesPerSecond)
	}
	r.limiter.SetLimit(limit)
	r.planMu.Lock()
	defer r.planMu.Unlock()
	r.planner.SetInterval(l.Interval)
}

// Closed returns what is known of closed epochs, without waiting. Sealed is up to
// date even while an epoch is being closed: what is merged from that moment on may
// be missing in the roots to come.
func (r *Repairer) Closed() Closed {
	c := *r.closed.Load()
	c.Sealed = r.index.Sealed()
	return c
}

const advanceEvery = 50 * time.Millisecond

// Run closes epochs and repairs until ctx ends, and returns when all sessions
// that it started have ended.
func (r *Repairer) Run(ctx context.Context) {
	defer r.working.Wait()
	tick := time.NewTicker(advanceEvery)
	defer tick.Stop()
	pace, release := new(pace), new(release)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		begin := time.Now()
		if !r.opts.Timely() {
			continue
		}
		if r.advance() {
			r.setStride(pace.next(time.Since(begin)))
			r.opts.OnClosed()
			if release.due(r.recent()) {
				debug.FreeOSMemory()
			}
		}
		r.plan(ctx)
	}
}

// advance lets the index take in what came and close what has ended.
func (r *Repairer) advance() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	closed := r.index.Advance(r.opts.Millis())
	r.publishLocked()
	return closed
}

func (r *Repairer) publishLocked() {
	c := &Closed{Sealed: r.index.Sealed(), Drained: r.index.Drained(), Roots: r.index.Roots()}
	r.closed.Store(c)
	r.met.closed(c)
}

// release gives memory back to the system once a time of many writes is over: the
// collector alone would keep what the changes of those epochs took.
type release struct{ most int }

// releaseFrom is how many changes in the last epochs are many. Each took some 200
// bytes.
const releaseFrom = 100_000

// due reports whether memory is to be given back, when so many changes of the last
// epochs are remembered.
func (m *release) due(recent int) bool {
	m.most = max(m.most, recent)
	if m.most < releaseFrom || recent > m.most/50 {
		return false
	}
	m.most = 0
	return true
}

func (r *Repairer) recent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.Recent()
}

func (r *Repairer) setStride(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index.SetStride(n)
	r.met.stride.Set(float64(n))
}

// pace makes fewer epochs be closed while closing one takes long, so that
// hashing never takes more than a part of the machine.
type pace struct {
	stride int64
	easy   int // quick ones in a row
}

const (
	slowClose = 400 * time.Millisecond
	quickHold = 8 // quick ones until every other epoch more is closed
	maxStride = 64
)

func (p *pace) next(took time.Duration) int64 {
	p.stride = max(1, p.stride)
	switch {
	case took > slowClose*time.Duration(p.stride):
		p.easy, p.stride = 0, min(2*p.stride, maxStride)
	case took < slowClose*time.Duration(p.stride)/2:
		if p.easy++; p.easy >= quickHold && p.stride > 1 {
			p.easy, p.stride = 0, p.stride/2
		}
	default:
		p.easy = 0
	}
	return p.stride
}

// Drain takes in all that has arrived and returns what is known of closed epochs
// then.
func (r *Repairer) Drain() Closed {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index.Drain()
	r.publishLocked()
	return *r.closed.Load()
}

// Hash returns the exact root of all entries whose keys begin with a prefix.
func (r *Repairer) Hash(prefix []byte) merkle.Hash {
	tree := r.now()
	if len(prefix) > 0 {
		tree = tree.Prefix(prefix)
	}
	return tree.Root()
}

func (r *Repairer) now() merkle.Tree {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.Now()
}

// treeAt returns the set at an epoch, 0 for the present.
func (r *Repairer) treeAt(epoch int64) (merkle.Tree, bool) {
	if epoch == 0 {
		return r.now(), true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.At(epoch)
}

// rootAt returns the root at an epoch after all that has arrived was taken in.
func (r *Repairer) rootAt(epoch int64) (merkle.Hash, bool) {
	if epoch == 0 {
		return r.now().Root(), true
	}
	r.Drain()
	t, ok := r.treeAt(epoch)
	return t.Root(), ok
}

// Records returns the last sessions, newest first: up to n of a hundred, all for
// n <= 0.
func (r *Repairer) Records(n int) []Record { return r.records.newest(n) }

// Limits returns the limits in force.
func (r *Repairer) Limits() Limits { return *r.limits.Load() }

// Running returns how many sessions run now.
func (r *Repairer) Running() int {
	r.planMu.Lock()
	defer r.planMu.Unlock()
	return len(r.running)
}

// Stuck returns the peers with which sessions come to nothing.
func (r *Repairer) Stuck() []Stuck {
	r.planMu.Lock()
	defer r.planMu.Unlock()
	return r.planner.Stuck()
}

// Unequal returns for how long a peer's roots have differed from the own ones
// though it has not received the same; 0 if they do not.
func (r *Repairer) Unequal(instance uint64) time.Duration {
	r.planMu.Lock()
	defer r.planMu.Unlock()
	return r.planner.Unequal(r.elapsed(), instance)
}
