package antientropy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
	"merklekv/pkg/store"
)

// pipeEnd is one end of a link in memory.
type pipeEnd struct {
	peer     *protocol.PeerHello
	salt     [32]byte
	in, out  chan []byte
	closed   chan struct{}
	once     *sync.Once
	sent, at int64
}

func newPipe(a, b *protocol.PeerHello) (*pipeEnd, *pipeEnd) {
	up, down, closed, once := make(chan []byte, 16), make(chan []byte, 16), make(chan struct{}), new(sync.Once)
	salt := [32]byte{1, 2, 3}
	return &pipeEnd{peer: b, salt: salt, in: down, out: up, closed: closed, once: once},
		&pipeEnd{peer: a, salt: salt, in: up, out: down, closed: closed, once: once}
}

func (p *pipeEnd) Peer() *protocol.PeerHello { return p.peer }
func (p *pipeEnd) Salt() [32]byte            { return p.salt }
func (p *pipeEnd) In() int64                 { return p.at }
func (p *pipeEnd) Out() int64                { return p.sent }
func (p *pipeEnd) Close()                    { p.once.Do(func() { close(p.closed) }) }

func (p *pipeEnd) Send(t protocol.FrameType, payload []byte) error {
	frame := protocol.AppendFrame(nil, t, payload)
	select {
	case <-p.closed:
		return io.ErrClosedPipe
	default:
	}
	select {
	case p.out <- frame:
		p.sent += int64(len(frame))
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	}
}

func (p *pipeEnd) SendPaced(t protocol.FrameType, payload []byte, wait func(int) error) error {
	if err := wait(len(payload) + protocol.FrameHeaderLen); err != nil {
		return err
	}
	return p.Send(t, payload)
}

func (p *pipeEnd) Receive(want ...protocol.FrameType) (protocol.FrameType, []byte, error) {
	var frame []byte
	select {
	case frame = <-p.in:
	case <-p.closed:
		select {
		case frame = <-p.in: // sent before it was closed
		default:
			return 0, nil, io.EOF
		}
	}
	p.at += int64(len(frame))
	return protocol.ReadFrame(strings.NewReader(string(frame)), nil, want...)
}

// replicaNode is a store with a repairer, for two of which a link is a pipe.
type replicaNode struct {
	*Repairer
	store  *store.Store
	hello  *protocol.PeerHello
	other  *replicaNode
	served chan error
	millis atomic.Int64 // the clock

	mu      sync.Mutex
	adopted []int64
	dials   int
}

func newReplicaNode(t *testing.T, instance uint64, limits Limits) *replicaNode {
	t.Helper()
	n := &replicaNode{served: make(chan error, 16), hello: &protocol.PeerHello{NodeID: fmt.Sprint("n", instance), Instance: instance}}
	n.millis.Store(testEpoch * hlc.MillisPerEpoch)
	st, err := store.New(store.Options{Clock: hlc.NewClock(n.millis.Load, math.MaxInt32), Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	n.store = st
	source := struct {
		*store.Store
		*store.DirtyReader
	}{st, st.NewDirtyReader()}
	n.Repairer, err = New(Options{
		Instance: instance, Source: source, Replica: st, Grace: 3600, Millis: n.millis.Load,
		Peers: n.peers, Connect: n.connect, Limits: limits,
		Adopt: func(_ context.Context, _ uint64, epoch int64, _ merkle.Hash) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.adopted = append(n.adopted, epoch)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pairOf returns two nodes that hold 1,000 keys in common, and one each that the
// other lacks.
func pairOf(t *testing.T, limits Limits) (a, b *replicaNode) {
	t.Helper()
	a, b = newReplicaNode(t, 1, limits), newReplicaNode(t, 2, limits)
	a.other, b.other = b, a
	for i := range 1000 {
		e := kv.Entry{Key: fmt.Appendf(nil, "k%04d", i), Value: []byte("v"), Version: kv.Version{HLC: hlc.At(1000) + hlc.Timestamp(i), Instance: 9}}
		for _, n := range []*replicaNode{a, b} {
			n.store.Apply(&kv.Change{Origin: 9, Seq: uint64(i + 1), Entry: e})
		}
	}
	for _, n := range []*replicaNode{a, b} {
		if _, err := n.store.Set(fmt.Append(nil, "of-", n.hello.NodeID), []byte("v")); err != nil {
			t.Fatal(err)
		}
		n.millis.Add(2 * hlc.MillisPerEpoch)
		n.advance()
	}
	return a, b
}

// peers shows the other node with roots that differ as long as they do.
func (n *replicaNode) peers() []PeerState {
	if n.other == nil {
		return nil
	}
	own, theirs := n.Closed().Roots, n.other.Closed().Roots
	s := PeerState{NodeID: n.other.hello.NodeID, Instance: n.other.hello.Instance, Address: "other", Live: true, Comparable: true}
	for i := range min(len(own), len(theirs)) {
		if own[i].Epoch == theirs[i].Epoch {
			s.Epochs = append(s.Epochs, EpochPair{Epoch: own[i].Epoch, Own: own[i].Root[:], Theirs: theirs[i].Root[:], VectorsEqual: true})
		}
	}
	return []PeerState{s}
}

func (n *replicaNode) connect(ctx context.Context, addr string) (Link, error) {
	n.mu.Lock()
	n.dials++
	n.mu.Unlock()
	if addr != "other" {
		return nil, errors.New("nobody lives there")
	}
	here, there := newPipe(n.hello, n.other.hello)
	go func() {
		t, payload, err := there.Receive(protocol.FrameSync)
		if err == nil && t == protocol.FrameSync {
			err = n.other.Serve(ctx, there, payload)
		}
		n.other.served <- err
		there.Close()
	}()
	return here, nil
}

func open(limits Limits) Limits {
	limits.Enabled, limits.Interval, limits.Concurrent = true, time.Minute, max(1, limits.Concurrent)
	return limits
}

func TestSyncMakesTwoReplicasEqualAndLeavesRecords(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := pairOf(t, open(Limits{}))
	rec, err := a.Sync(context.Background(), "other", Repair)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-b.served; err != nil {
		t.Fatal(err)
	}
	if a.Hash(nil) != b.Hash(nil) {
		t.Fatal("not equal after a session")
	}
	if r := rec.Result; r.Pulled != 1 || r.Pushed != 1 || rec.Outcome() == "failed" || rec.Why != WhyCommand {
		t.Fatalf("record %+v", rec)
	}
	mine, theirs := a.Records(0), b.Records(0)
	if len(mine) != 1 || len(theirs) != 1 || mine[0].NodeID != "n2" || theirs[0].NodeID != "n1" || theirs[0].Why != WhyServed {
		t.Fatalf("records %+v and %+v", mine, theirs)
	}
	if x, y := mine[0].Result, theirs[0].Result; x.BytesIn != y.BytesOut || x.BytesOut != y.BytesIn || x.Pulled != y.Pushed {
		t.Fatalf("the two sides tell different things: %+v and %+v", x, y)
	}
	if again, err := a.Sync(context.Background(), "other", Repair); err != nil || again.Outcome() != "equal" || again.Result.Pulled != 0 {
		t.Fatalf("a second session: %+v, %v", again, err)
	}
	<-b.served
}

func TestVerifyFindsAndChangesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := pairOf(t, open(Limits{}))
	before := a.Hash(nil)
	rec, err := a.Sync(context.Background(), "other", Verify)
	<-b.served
	if err != nil || rec.Result.DifferenceCount != 2 || len(rec.Result.Differences) != 2 {
		t.Fatalf("%d differences %v, %v", rec.Result.DifferenceCount, rec.Result.Differences, err)
	}
	if a.Hash(nil) != before || a.store.Len() != 1001 || b.store.Len() != 1001 {
		t.Fatal("verifying changed something")
	}
}

func TestSessionsAreRefused(t *testing.T) {
	defer goleak.VerifyNone(t)
	for name, c := range map[string]struct {
		here, there func(*replicaNode)
		addr        string
		want        string
	}{
		"disabled here":         {here: func(n *replicaNode) { n.SetLimits(Limits{}) }, want: "disabled"},
		"disabled there":        {there: func(n *replicaNode) { n.SetLimits(Limits{}) }, want: "disabled"},
		"one runs here":         {here: func(n *replicaNode) { n.enter(2) }, want: "runs already"},
		"one runs there":        {there: func(n *replicaNode) { n.enter(7) }, want: "runs already"},
		"nobody at the address": {addr: "elsewhere", want: "nobody lives there"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pairOf(t, open(Limits{}))
			if c.here != nil {
				c.here(a)
			}
			if c.there != nil {
				c.there(b)
			}
			addr := c.addr
			if addr == "" {
				addr = "other"
			}
			_, err := a.Sync(context.Background(), addr, Repair)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if a.store.Len() != 1001 || b.store.Len() != 1001 {
				t.Fatal("something was repaired")
			}
		})
	}
}

// Run repairs by itself, tells of what it took over, and then leaves it at that.
func TestRunRepairsAndStops(t *testing.T) {
	a, b := pairOf(t, open(Limits{BytesPerSecond: 1 << 20}))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, n := range []*replicaNode{a, b} {
		running.Go(func() { n.Run(ctx) })
	}
	poll.Until(t, 20*time.Second, func() bool { return a.Hash(nil) == b.Hash(nil) }, "the replicas are equal")
	stop()
	running.Wait()
	records := slices.DeleteFunc(a.Records(0), func(r Record) bool { return r.Outcome() == "failed" })
	if len(records) == 0 || records[len(records)-1].Why != WhyRoots && records[len(records)-1].Why != WhyServed {
		t.Fatalf("records %+v", records)
	}
}

func TestRecordsKeepTheLastHundred(t *testing.T) {
	var r records
	for range 250 {
		r.add(Record{})
	}
	all := r.newest(0)
	if len(all) != keptRecords || all[0].Number != 250 || all[99].Number != 151 || len(r.newest(3)) != 3 {
		t.Fatalf("%d records, the newest %d", len(all), all[0].Number)
	}
}

func TestPaceClosesFewerEpochsWhileClosingIsSlow(t *testing.T) {
	var p pace
	if p.next(10*time.Millisecond) != 1 || p.next(slowClose+1) != 2 || p.next(2*slowClose+1) != 4 {
		t.Fatalf("stride %d", p.stride)
	}
	for range 2 * quickHold {
		p.next(time.Millisecond)
	}
	if p.stride != 1 {
		t.Fatalf("stride %d after quick ones", p.stride)
	}
	for range 20 {
		p.next(time.Hour)
	}
	if p.stride != maxStride {
		t.Fatalf("stride %d", p.stride)
	}
}

// A monitor that verifies again and again does not put repair off.
func TestVerifyingPutsNothingOff(t *testing.T) {
	a, b := pairOf(t, open(Limits{}))
	for range 6 {
		if _, err := a.Sync(context.Background(), "other", Verify); err != nil {
			t.Fatal(err)
		}
		<-b.served
	}
	for _, n := range []*replicaNode{a, b} {
		n.planMu.Lock()
		starts := n.planner.Decide(n.elapsed()+afterSession+yieldFor, n.peers(), 1)
		starts = append(starts, n.planner.Decide(n.elapsed()+afterSession+2*yieldFor, n.peers(), 1)...)
		n.planMu.Unlock()
		if len(starts) != 1 || starts[0].Why != WhyRoots {
			t.Fatalf("%s starts %+v a few seconds later", n.hello.NodeID, starts)
		}
	}
}

// The epoch of a session is one that both keep, if there is one.
func TestSessionTakesAnEpochThatBothKeep(t *testing.T) {
	a, b := pairOf(t, open(Limits{}))
	b.millis.Add(2 * hlc.MillisPerEpoch)
	b.advance() // the peer has closed one more
	b.SetLimits(open(Limits{}))
	theirs := b.Closed().Roots
	a.opts.Peers = func() []PeerState {
		s := a.peers()[0]
		s.Epochs = nil
		for _, r := range theirs {
			s.Epochs = append(s.Epochs, EpochPair{Epoch: r.Epoch, Theirs: r.Root[:]})
		}
		return []PeerState{s}
	}
	if epoch, root := a.epochFor(WhyRoots, 2); epoch != theirs[1].Epoch || root == nil || *root != theirs[1].Root {
		t.Fatalf("epoch %d, the common one is %d", epoch, theirs[1].Epoch)
	}
	if epoch, _ := a.epochFor(WhyCommand, 2); epoch != 0 {
		t.Fatalf("a command compares epoch %d and not what is there now", epoch)
	}
}

// What sessions send is held to the configured rate, and one with a peer at a time.
func TestLimitsOfSessions(t *testing.T) {
	a, _ := pairOf(t, open(Limits{Concurrent: 3, BytesPerSecond: 100_000}))
	if err := a.throttle(context.Background(), sendBurst); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.throttle(ended, sendBurst); err == nil {
		t.Fatal("twice what may be sent at once went through without waiting")
	}
	if !a.enter(7) || a.enter(7) {
		t.Fatal("two sessions with one peer")
	}
	if !a.enter(8) || !a.enter(9) || a.enter(10) {
		t.Fatal("not just three sessions at a time")
	}
}

func TestMemoryIsGivenBackOnceWhenWritesEnd(t *testing.T) {
	var m release
	for i, step := range []struct {
		recent int
		want   bool
	}{{10, false}, {releaseFrom, false}, {3 * releaseFrom, false}, {releaseFrom, false}, {0, true}, {0, false}, {500, false}} {
		if got := m.due(step.recent); got != step.want {
			t.Fatalf("step %d: %v", i, got)
		}
	}
}
