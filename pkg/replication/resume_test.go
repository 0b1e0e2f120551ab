package replication

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/journal"
	"merklekv/pkg/protocol"
)

// resumed returns a core that had received five changes of instance 1, the node a,
// and three of 7, its own last start; a answers at a:1 and has not sent its head.
func resumed(t *testing.T) (*Core, *fakeIndex) {
	t.Helper()
	f := new(fakeIndex)
	f.seal(coreEpoch, 'r', 0)
	c := testCoreWith(t, CoreOptions{
		Repair: func() bool { return true }, Closed: func() Closed { return f.closed },
		Received: []journal.Mark{
			{Origin: 1, Seq: 5, Stamp: hlc.At((coreEpoch - 2) * hlc.MillisPerEpoch)},
			{Origin: 7, Seq: 3, Stamp: hlc.At((coreEpoch - 3) * hlc.MillisPerEpoch)},
		},
	}, "a:1")
	c.OnLinks(1)
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v at the start", got)
	}
	if err := c.OnHello("a:1", testHello("a", 1)); err != nil {
		t.Fatal(err)
	}
	if c.ready {
		t.Fatal("ready before anything was compared")
	}
	return c, f
}

func TestResumedNodeWithNothingMissedIsReadyAtTheFirstHead(t *testing.T) {
	c, _ := resumed(t)
	if got := told(c); got != nil {
		t.Fatalf("roots of %v are told, though what lies above gaps is not known yet", got)
	}
	c.OnHead(testHead("a", 1, 1, 5), ViaTCP)
	if !c.ready || c.PullFrom("a:1", 1) != nil {
		t.Fatalf("ready %v, %q", c.ready, c.reasons())
	}
	if got := told(c); !slices.Equal(got, []int64{0, 1, 2}) {
		t.Fatalf("told %v: all since the newest change that was kept", got)
	}
	h := c.head()
	if len(h.Vector) != 2 || h.Rest.Count != 0 || h.Vector[0].Seq != 5 || h.Vector[1].Seq != 3 {
		t.Fatalf("the head tells %v and leaves out %v", h.Vector, h.Rest)
	}
	if c.rep.LogFloor(1) != 6 || c.rep.LogFloor(7) != 4 {
		t.Fatalf("floors %d and %d: the log holds nothing from before", c.rep.LogFloor(1), c.rep.LogFloor(7))
	}
}

func TestResumedNodePullsTheMissingSuffixFirst(t *testing.T) {
	c, _ := resumed(t)
	c.OnHead(testHead("a", 1, 1, 7), ViaTCP)
	pull := c.PullFrom("a:1", 1)
	if c.ready || pull == nil || !slices.Equal(pull.Origins, []uint64{1}) || !pull.Repair || pull.Vector[0].Seq != 5 {
		t.Fatalf("ready %v, pull %+v", c.ready, pull)
	}
	c.OnHead(testHead("a", 1, 2, 9), ViaMQTT) // what is made meanwhile is not waited for
	c.OnEntries(new(PullState), testBatch(1, 6, 2).Changes)
	c.OnPullDone("a:1", 1, new(PullState), new(protocol.PeerDone))
	c.OnDialEnded("a:1", nil)
	if !c.ready || c.vec.Prefix(1).Seq != 7 {
		t.Fatalf("ready %v with %v", c.ready, c.vec.Prefix(1))
	}
}

func TestResumedNodeLeavesWhatNoLogHasToSessions(t *testing.T) {
	c, _ := resumed(t)
	c.OnHead(testHead("a", 1, 1, 7), ViaTCP)
	if c.PullFrom("a:1", 1) == nil {
		t.Fatal("no pull")
	}
	c.OnPullDone("a:1", 1, new(PullState), &protocol.PeerDone{Floor: true, Vector: []protocol.VectorItem{{Instance: 1, Seq: 7, HLC: 7}}})
	c.OnDialEnded("a:1", nil)
	if !c.ready || len(c.Status().Unfillable) != 1 {
		t.Fatalf("ready %v, unfillable %v", c.ready, c.Status().Unfillable)
	}
}

func TestResumedNodeIsNotHeldUpForEver(t *testing.T) {
	for name, h := range map[string]*Head{"a peer that sends nothing": testHead("a", 1, 1, 7), "no head": nil} {
		c, _ := resumed(t)
		if h != nil {
			c.OnHead(h, ViaTCP)
		}
		c.OnDialEnded("a:1", errTest)
		c.unanswered(1, 4)
		if c.ready {
			t.Errorf("%s: ready before it had time", name)
		}
		c.unanswered(5, 6)
		if !c.ready {
			t.Errorf("%s: not ready: %q", name, c.reasons())
		}
	}
	paused, _ := resumed(t)
	h := testHead("a", 1, 1, 7)
	h.Paused = true
	paused.OnHead(h, ViaTCP)
	if !paused.ready {
		t.Error("waits for a peer that gives nothing")
	}
}

func TestWhatWasKeptIsBounded(t *testing.T) {
	var marks []journal.Mark
	for i := range uint64(protocol.MaxVectorItems + 10) {
		marks = append(marks, journal.Mark{Origin: 100 + i, Seq: 1, Stamp: hlc.At(coreWall) - hlc.Timestamp(i)})
	}
	marks = append(marks, journal.Mark{Origin: 50, Seq: 9, Stamp: math.MaxUint64}, journal.Mark{Origin: 51, Stamp: 1})
	c := testCoreWith(t, CoreOptions{Received: marks})
	if n := c.vec.Len(); n != protocol.MaxVectorItems-1 {
		t.Fatalf("%d origins", n)
	}
	if c.vec.Has(50) || c.vec.Has(51) || !c.vec.Has(100) || c.vec.Has(100+protocol.MaxVectorItems) {
		t.Fatal("its own instance, or nothing, counts as received; or not the newest were taken")
	}
}

func TestNodeThatKeptNothingPullsEverything(t *testing.T) {
	c := testCoreWith(t, CoreOptions{Volume: 3}, "a:1")
	c.OnHello("a:1", testHello("a", 1))
	c.OnHead(testHead("a", 1, 1, 0), ViaTCP)
	if pull := c.PullFrom("a:1", 1); c.ready || pull == nil || pull.Origins != nil || pull.Repair {
		t.Fatalf("ready %v, pull %+v", c.ready, pull)
	}
}

// While the disk is full nothing is taken in, and what this node has is given: it is
// not paused.
func TestIntakeStopsAndGoesOn(t *testing.T) {
	c := joined(t)
	c.at(time.Second).SetIntake("disk", false)
	c.SetIntake("operator", false)
	c.OnBatch(testBatch(1, 1, 3))
	c.OnHead(testHead("a", 1, 3, 3), ViaMQTT)
	c.Tick()
	if got := dials(c); got != nil || c.vec.Prefix(1).Seq != 0 || c.PullFrom("a:1", 1) != nil {
		t.Fatalf("dials %v, prefix %v while nothing is taken in", got, c.vec.Prefix(1))
	}
	if h := c.head(); h.Paused || !h.Shut {
		t.Fatalf("head: paused %v, shut %v", h.Paused, h.Shut)
	}
	c.SetEnabled(true)
	c.at(2*time.Second).SetIntake("operator", true)
	if c.PullFrom("a:1", 1) != nil || !slices.Equal(c.Status().Shut, []string{"disk"}) {
		t.Fatalf("one source opened what %q had shut", c.Status().Shut)
	}
	dials(c)
	c.at(3*time.Second).SetIntake("disk", true)
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) || c.head().Shut {
		t.Fatalf("dials %v afterwards", got)
	}

	other := joined(t)
	h := testHead("a", 1, 3, 3)
	h.Shut = true
	other.at(time.Second).OnHead(h, ViaMQTT)
	if got := dials(other); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v: a peer that takes nothing gives all the same", got)
	}
}

// The same over real links, whole: a node that ends and starts again with what it
// had fetches what it missed.
func TestReplicatorGoesOnWithWhatItHad(t *testing.T) {
	a := startNode(t, nodeConfig{id: "a", instance: 1, volume: 7})
	b := startNode(t, nodeConfig{id: "b", instance: 2, volume: 8, peers: []string{a.ln.Addr().String()}})
	a.waitReady()
	b.waitReady()
	for i := range 50 {
		a.rep.set(fmt.Sprintf("a%d", i), nil)
		b.rep.set(fmt.Sprintf("b%d", i), nil)
	}
	waitEqual(t, a, b)
	waitGapless(t, a, b)
	b.stop()
	for i := range 7 {
		a.rep.set(fmt.Sprintf("missed%d", i), nil)
	}
	k := b.rep.keep()
	again := newMapReplica(3, b.rep.clock.Physical, 1<<20)
	again.load(k)
	b = startNode(t, nodeConfig{id: "b", rep: again, volume: 8, received: k.received, peers: []string{a.ln.Addr().String()}})
	b.waitReady()
	waitEqual(t, a, b)
	waitGapless(t, a, b)
	if got := valueOf(b.repl.met.pulledEntries); got != 7 {
		t.Fatalf("%v changes were pulled, 7 were missed", got)
	}
	copied := startNode(t, nodeConfig{id: "c", instance: 4, volume: 8, peers: []string{b.ln.Addr().String()}})
	names := func(n *testNode, id string) bool {
		s := n.repl.Status().Clones
		return len(s) == 1 && s[0].NodeID == id
	}
	poll.Until(t, patience, func() bool { return names(copied, "b") && names(b, "c") }, "both to name the other")
	if got := a.repl.Status().Clones; got != nil {
		t.Fatalf("a names %v", got)
	}
}
