package replication

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

const coreWall = int64(1_700_000_000_000)

func testCore(t *testing.T, peers ...string) *Core { return testCoreWith(t, CoreOptions{}, peers...) }

// testCoreWith returns a test core that keeps something over restarts.
func testCoreWith(t *testing.T, keeps CoreOptions, peers ...string) *Core {
	t.Helper()
	met, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	millis := func() int64 { return coreWall }
	c := newCore(CoreOptions{
		NodeID: "me", Address: "me:1", Instance: 50, Started: coreWall, Params: testParams, DiscoveryInterval: time.Minute,
		Millis: millis, Drift: func() int64 { return 60_000 }, Rand: func() float64 { return 0 },
		Repair: keeps.Repair, Closed: keeps.Closed, Received: keeps.Received, Volume: keeps.Volume,
	}, newMapReplica(50, millis, 1000), met, slog.New(slog.DiscardHandler))
	for _, p := range peers {
		c.AddHost(p, true)
		c.OnResolved(p, []string{p})
	}
	return c
}

// dials returns what the core wants dialled, and forgets all other actions.
func dials(c *Core) []string {
	var addrs []string
	for _, a := range c.Take() {
		if a.Kind == ActDial {
			addrs = append(addrs, a.Addr)
		}
	}
	return addrs
}

func (c *Core) at(d time.Duration) *Core {
	c.now = d
	return c
}

func testHead(node string, instance, counter, last uint64) *Head {
	return &Head{NodeID: node, Instance: instance, Counter: counter, Started: coreWall - 1000, Wall: coreWall,
		Params: testParams, Last: vector.Mark{Seq: last, HLC: hlc.At(coreWall)}, Address: node + ":1"}
}

func testBatch(instance, first uint64, n int) *Batch {
	b := &Batch{Instance: instance, First: first}
	for i := range uint64(n) {
		b.Changes = append(b.Changes, protocol.DecodedChange{Change: kv.Change{Origin: instance, Seq: first + i, Entry: kv.Entry{
			Key: []byte{byte(first + i)}, Version: kv.Version{HLC: hlc.At(coreWall-1000) + hlc.Timestamp(first+i), Instance: instance}}}})
	}
	return b
}

// joined returns a core that has pulled from the node a (instance 1) at a:1, and
// has a broker.
func joined(t *testing.T) *Core {
	t.Helper()
	c := testCore(t, "a:1")
	c.OnLinks(1)
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v at the start", got)
	}
	if err := c.OnHello("a:1", &protocol.PeerHello{NodeID: "a", Instance: 1, Address: "a:1", Started: coreWall - 1000}); err != nil {
		t.Fatal(err)
	}
	c.OnHead(testHead("a", 1, 1, 0), ViaTCP)
	if c.PullFrom("a:1", 1) == nil {
		t.Fatal("no pull at the start")
	}
	c.OnPullDone("a:1", 1, new(PullState), new(protocol.PeerDone))
	c.OnDialEnded("a:1", nil)
	if !c.ready {
		t.Fatal("not ready after the first pull")
	}
	c.OnHead(testHead("a", 1, 2, 0), ViaMQTT)
	dials(c)
	return c
}

func TestGapInABatchIsPulledAtOnce(t *testing.T) {
	c := joined(t)
	c.at(time.Second).OnBatch(testBatch(1, 1, 3))
	if got := dials(c); got != nil {
		t.Fatalf("dials %v without a gap", got)
	}
	c.OnBatch(testBatch(1, 6, 2))
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v at a gap", got)
	}
	pull := c.PullFrom("a:1", 1)
	if pull == nil || !slices.Equal(pull.Origins, []uint64{1}) || len(pull.Spans) != 1 || pull.Spans[0].Low != 6 {
		t.Fatalf("pull %+v", pull)
	}
	c.OnEntries(new(PullState), testBatch(1, 4, 2).Changes)
	c.OnPullDone("a:1", 1, new(PullState), new(protocol.PeerDone))
	c.OnDialEnded("a:1", nil)
	if got := dials(c); got != nil || c.vec.Prefix(1).Seq != 7 || len(c.wants) != 0 {
		t.Fatalf("after the pull: dials %v, prefix %v, %d gaps", got, c.vec.Prefix(1), len(c.wants))
	}
}

func TestGapInAHead(t *testing.T) {
	c := joined(t)
	c.at(time.Second).OnHead(testHead("a", 1, 3, 5), ViaMQTT)
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v after the origin's head by MQTT", got)
	}
	c = joined(t)
	c.at(time.Second).OnHead(testHead("a", 1, 3, 5), ViaTCP)
	if got := dials(c); got != nil {
		t.Fatalf("dials %v at once after a head by TCP", got)
	}
	c.at(time.Second + gapPatience).Tick()
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v when the gap is still there", got)
	}
	c = joined(t)
	c.at(time.Second).OnHead(testHead("a", 1, 3, 5), ViaTCP)
	c.at(time.Second + gapPatience/2).OnBatch(testBatch(1, 1, 2))
	c.Tick()
	c.at(time.Second + gapPatience).Tick()
	if got := dials(c); got != nil {
		t.Fatalf("dials %v while the prefix moves", got)
	}
}

func TestOldHeadsChangeNothing(t *testing.T) {
	c := joined(t)
	c.at(time.Second).OnHead(testHead("a", 1, 2, 99), ViaMQTT)
	if len(c.wants) != 0 {
		t.Fatal("a head with an old counter was taken in")
	}
}

func TestGapThatNobodyCoversIsNotPulled(t *testing.T) {
	c := joined(t)
	c.at(time.Second).OnBatch(testBatch(9, 5, 1)) // of an instance without an address
	c.at(10*time.Second).OnHead(testHead("a", 1, 3, 0), ViaMQTT)
	for _, d := range []time.Duration{11, 12, 13} {
		c.at(d*time.Second).OnHead(testHead("a", 1, uint64(d), 0), ViaMQTT)
		c.Tick()
	}
	if got := dials(c); got != nil || len(c.wants) != 0 {
		t.Fatalf("dials %v, %d gaps", got, len(c.wants))
	}
}

func TestFullCopyWithADeferralVouchesForNothing(t *testing.T) {
	c := joined(t)
	future := testBatch(3, 0, 1).Changes
	future[0].Entry.Version.HLC = hlc.At(coreWall + 120_000)
	st := new(PullState)
	c.OnEntries(st, future)
	c.OnPullDone("a:1", 1, st, &protocol.PeerDone{Full: true, Vector: []protocol.VectorItem{{Instance: 8, Seq: 5, HLC: 5}}})
	if c.vec.Prefix(8).Seq != 0 {
		t.Fatal("the vector was adopted")
	}
	if d := c.deferredList(); len(d) != 1 || d[0].Due != coreWall+60_000 {
		t.Fatalf("deferred %v", d)
	}
	c.OnPullDone("a:1", 1, new(PullState), &protocol.PeerDone{Full: true, Vector: []protocol.VectorItem{{Instance: 8, Seq: 5, HLC: 5}}})
	if c.vec.Prefix(8).Seq != 5 || c.rep.LogFloor(8) != 6 {
		t.Fatalf("prefix %v, floor %d after a complete copy", c.vec.Prefix(8), c.rep.LogFloor(8))
	}
}

func TestReadiness(t *testing.T) {
	alone := testCore(t)
	alone.OnLinks(1)
	if alone.ready {
		t.Fatal("ready before anything was heard")
	}
	alone.OnHead(testHead("me", 50, 1, 0), ViaMQTT)
	if !alone.ready {
		t.Fatal("not ready after its own head came back")
	}
	unheard := testCore(t)
	unheard.at(startAlone).Tick()
	if !unheard.ready {
		t.Fatal("a node without peers and broker is not ready after a second")
	}
	self := testCore(t, "self:1")
	if err := self.OnHello("self:1", &protocol.PeerHello{Instance: 50}); err == nil {
		t.Fatal("this node itself is no peer")
	}
	self.OnDialEnded("self:1", nil)
	self.at(startAlone).Tick()
	if !self.ready {
		t.Fatal("a node that is its own only peer is not ready")
	}
	unanswered := testCore(t, "a:1")
	unanswered.at(startPatience - 1).Tick()
	if unanswered.ready || len(unanswered.reasons()) == 0 {
		t.Fatal("ready before a configured peer had time to answer")
	}
	unanswered.at(startPatience).Tick()
	if !unanswered.ready {
		t.Fatal("not ready though nobody answers")
	}
}

func TestDownOfAnEarlierInstanceIsIgnored(t *testing.T) {
	c := joined(t)
	c.OnPresence(&Presence{Instance: 77, NodeID: "a"}, 1)
	if !c.live(c.peers[1]) {
		t.Fatal("the good-bye of another instance counts")
	}
	c.OnPresence(&Presence{Instance: 1, NodeID: "a"}, 1)
	if c.live(c.peers[1]) {
		t.Fatal("the good-bye of the instance does not count")
	}
}

func TestHeadsAreNotPublishedTooOften(t *testing.T) {
	c := joined(t)
	c.Tick()
	c.Take()
	for range 10 {
		c.RequestHead()
	}
	c.at(c.now + headGap).RequestHead()
	heads := 0
	for _, a := range c.Take() {
		if a.Kind == ActHead {
			heads++
		}
	}
	if heads > 1 {
		t.Fatalf("%d heads within %v", heads, headGap)
	}
}

// A dial that failed is news for a while: nobody dials a peer again that messages
// reach, so nobody would take it back.
func TestFailedDialIsNewsForAWhile(t *testing.T) {
	c := testCore(t, "a:1")
	for range 2 {
		c.OnDialEnded("a:1", errors.New("no answer"))
		c.endpoints["a:1"].dialed = c.now
	}
	if f := c.Status().Failing; len(f) != 1 || f[0].Reason != "no answer" {
		t.Fatalf("failing: %v", f)
	}
	c.now += failingFor + 1
	if f := c.Status().Failing; len(f) != 0 {
		t.Fatalf("failing: %v, though nobody has dialled since", f)
	}
}
