package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

var errTest = errors.New("no answer")

func testHello(node string, instance uint64) *protocol.PeerHello {
	return &protocol.PeerHello{NodeID: node, Instance: instance, Address: node + ":1", Started: coreWall - 1000}
}

// unanswered lets seconds pass in which every dial fails.
func (c *Core) unanswered(from, to int) {
	for s := from; s <= to; s++ {
		c.at(time.Duration(s) * time.Second).Tick()
		for _, addr := range dials(c) {
			c.OnDialEnded(addr, errTest)
		}
	}
}

func TestPeerThatDiesAfterItsHelloIsNotWaitedForForEver(t *testing.T) {
	c := testCore(t, "a:1")
	dials(c)
	c.at(2 * time.Second)
	if err := c.OnHello("a:1", testHello("a", 1)); err != nil {
		t.Fatal(err)
	}
	c.OnDialEnded("a:1", errTest)
	c.unanswered(3, 6)
	if c.ready {
		t.Fatal("ready before the peer had time to come back")
	}
	c.unanswered(7, 8)
	if !c.ready {
		t.Fatal("not ready though nobody has answered for long enough")
	}
}

func TestStrangerDoesNotHoldTheStart(t *testing.T) {
	c := testCore(t, "a:1")
	for s := 1; s < 30; s++ {
		c.at(time.Duration(s) * time.Second)
		if err := c.OnHello("", testHello("x", 9)); err != nil {
			t.Fatal(err)
		}
		c.unanswered(s, s)
	}
	if c.ready {
		t.Fatal("ready while somebody answers")
	}
	c.OnHello("", testHello("x", 9))
	c.unanswered(30, 30)
	if !c.ready {
		t.Fatal("not ready after the limit")
	}
}

func TestPullThatGetsOnIsWaitedFor(t *testing.T) {
	c := testCore(t, "a:1")
	dials(c)
	c.OnHello("a:1", testHello("a", 1))
	c.OnHead(testHead("a", 1, 1, 0), ViaTCP)
	if c.PullFrom("a:1", 1) == nil {
		t.Fatal("no pull")
	}
	st := new(PullState)
	for s := range 60 {
		c.at(time.Duration(s) * time.Second)
		c.OnEntries(st, testBatch(1, uint64(s+1), 1).Changes)
		c.Tick()
	}
	if c.ready {
		t.Fatal("ready in the middle of a pull that gets on")
	}
	c.at(60*time.Second + stalled).Tick()
	if !c.ready {
		t.Fatal("a pull that does not get on is waited for")
	}
}

// A node that started with nobody there pulls everything from the first peer that
// answers, until that succeeds.
func TestReadyAloneIsNotPulled(t *testing.T) {
	c := testCore(t)
	c.unanswered(1, 2)
	if !c.ready {
		t.Fatal("not ready alone")
	}
	c.OnLinks(1)
	c.OnPresence(&Presence{Instance: 2, NodeID: "b", Address: "b:1", Up: true}, 1)
	c.OnResolved("b:1", []string{"b:1"})
	for try := range 3 {
		c.at(time.Duration(10+3*try) * time.Second).Tick()
		if got := dials(c); !slices.Equal(got, []string{"b:1"}) {
			t.Fatalf("try %d: dials %v", try, got)
		}
		c.OnHello("b:1", testHello("b", 2))
		c.OnHead(testHead("b", 2, uint64(try+1), 0), ViaTCP)
		pull := c.PullFrom("b:1", 2)
		if pull == nil || len(pull.Origins) != 0 {
			t.Fatalf("try %d: pull %+v", try, pull)
		}
		if try < 2 {
			c.OnDialEnded("b:1", errTest)
			continue
		}
		c.OnPullDone("b:1", 2, new(PullState), new(protocol.PeerDone))
		c.OnDialEnded("b:1", nil)
	}
	c.at(20*time.Second).OnHead(testHead("b", 2, 9, 0), ViaMQTT)
	c.at(21 * time.Second).Tick()
	if got := dials(c); got != nil {
		t.Fatalf("dials %v after the pull", got)
	}
}

// holder returns a core that holds changes of an instance that ended long ago.
func holder(t *testing.T, ended, seq uint64) *Core {
	t.Helper()
	b := testCore(t)
	b.set.NodeID, b.set.Instance, b.set.Address = "b", 2, "b:1"
	b.vec.Adopt(ended, vector.Mark{Seq: seq, HLC: hlc.At(coreWall - 3_600_000)})
	return b.at(time.Hour)
}

// meet has c hear b for some seconds, and pull if it wants to; it returns how
// often it did so.
func meet(t *testing.T, c, b *Core, from, seconds int, done func() *protocol.PeerDone) (pulls int) {
	t.Helper()
	for s := from; s < from+seconds; s++ {
		c.at(time.Duration(s) * time.Second).Tick()
		h, err := DecodeHead(EncodeHead(b.head()))
		if err != nil {
			t.Fatal(err)
		}
		c.OnHead(h, ViaMQTT)
		for _, addr := range dials(c) {
			c.OnHello(addr, testHello("b", 2))
			c.OnHead(b.head(), ViaTCP)
			if c.PullFrom(addr, 2) != nil {
				pulls++
				c.OnPullDone(addr, 2, new(PullState), done())
			}
			c.OnDialEnded(addr, nil)
		}
	}
	return pulls
}

func TestEndedInstancesReachANodeThatServedAlone(t *testing.T) {
	b := holder(t, 9, 1000)
	if h := b.head(); len(h.Vector) != 0 || h.Rest.Count != 1 {
		t.Fatalf("head names %v, leaves out %v", h.Vector, h.Rest)
	}
	c := testCore(t, "b:1")
	c.unanswered(0, 8)
	pulls := meet(t, c, b, 9, 1800, func() *protocol.PeerDone { return &protocol.PeerDone{Full: true, Vector: vectorItems(b.vec)} })
	if pulls != 1 || c.vec.Prefix(9).Seq != 1000 {
		t.Fatalf("%d pulls, vector %v", pulls, vectorItems(c.vec))
	}
}

func TestTailOfAnEndedInstanceIsPulled(t *testing.T) {
	b := holder(t, 9, 1000)
	c := testCore(t, "b:1")
	meet(t, c, b, 0, 10, func() *protocol.PeerDone {
		return &protocol.PeerDone{Vector: []protocol.VectorItem{{Instance: 9, Seq: 1000}}}
	})
	c.vec.Adopt(9, vector.Mark{Seq: 900, HLC: hlc.At(coreWall - 3_600_000)}) // what came before the cut
	pulls := meet(t, c, b, 10, 1800, func() *protocol.PeerDone { return &protocol.PeerDone{Full: true, Vector: vectorItems(b.vec)} })
	if pulls != 1 || c.vec.Prefix(9).Seq != 1000 {
		t.Fatalf("%d pulls, vector %v", pulls, vectorItems(c.vec))
	}
}

// A peer that leaves out less than is here is asked once, not for ever.
func TestDifferenceThatAPullCannotChangeIsSettled(t *testing.T) {
	b := holder(t, 9, 1000)
	c := testCore(t, "b:1")
	c.vec.Adopt(8, vector.Mark{Seq: 5, HLC: 5})
	c.vec.Adopt(9, vector.Mark{Seq: 1000, HLC: 5})
	all := func() *protocol.PeerDone { return &protocol.PeerDone{Full: true, Vector: vectorItems(b.vec)} }
	if pulls := meet(t, c, b, 0, 3600, all); pulls != 1 {
		t.Fatalf("%d pulls", pulls)
	}
	b.vec.Adopt(9, vector.Mark{Seq: 1001, HLC: 5})
	if pulls := meet(t, c, b, 3600, 3600, all); pulls != 1 || c.vec.Prefix(9).Seq != 1001 {
		t.Fatalf("%d pulls after a change there, prefix %v", pulls, c.vec.Prefix(9))
	}
}

func TestDigestKnowsSetsAndNoOrder(t *testing.T) {
	var a, b, c Digest
	a.add(1, 10)
	a.add(2, 20)
	b.add(2, 20)
	b.add(1, 10)
	c.add(1, 20)
	c.add(2, 10)
	if a != b || a == c {
		t.Fatalf("digests %v %v %v", a, b, c)
	}
}

func TestHeadOfManyInstancesFits(t *testing.T) {
	c := testCore(t).at(time.Minute)
	for i := range uint64(10_000) {
		id := mix(i)
		c.vec.Adopt(id, vector.Mark{Seq: 1 << 40, HLC: hlc.At(coreWall) + hlc.Timestamp(id>>40)})
		c.active[id] = time.Duration(i) * time.Millisecond
		c.deferChange(&testBatch(id, 5, 1).Changes[0].Change)
	}
	c.vec.Adopt(c.set.Instance, vector.Mark{Seq: 3, HLC: hlc.At(coreWall)})
	body := EncodeHead(c.head())
	if len(body) > MaxBody {
		t.Fatalf("%d bytes", len(body))
	}
	h, err := DecodeHead(body)
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[uint64]bool)
	for _, it := range h.Vector {
		named[it.Instance] = true
	}
	if !named[c.set.Instance] || !named[mix(9999)] || named[mix(0)] {
		t.Fatal("it does not name this instance and those of which something came last")
	}
	if h.Rest.Count+uint64(len(h.Vector)) != 10_001 || len(h.Vector) < 1000 {
		t.Fatalf("%d named, %d left out", len(h.Vector), h.Rest.Count)
	}
	if len(h.Deferred) != maxDeferred {
		t.Fatalf("%d deferrals", len(h.Deferred))
	}
}

func TestWhatIsRememberedOfInstancesIsBoundedAndAges(t *testing.T) {
	c := testCore(t)
	for i := range uint64(2 * maxActive) {
		c.touch(i + 1)
		c.deferChange(&testBatch(i+1, 5, 1).Changes[0].Change)
	}
	if len(c.active) != maxActive || len(c.deferred) != maxDeferred {
		t.Fatalf("%d active, %d deferred", len(c.active), len(c.deferred))
	}
	far := testBatch(1, 5, 1).Changes[0].Change
	far.Entry.Version.HLC = 1 << 63
	c.deferred = map[uint64]postponed{}
	c.deferChange(&far)
	c.Tick()
	if len(c.deferred) != 1 {
		t.Fatal("the deferral is gone at once")
	}
	c.at(forgetAfter + 1).Tick()
	if len(c.active) != 0 || len(c.deferred) != 0 {
		t.Fatalf("after a while %d active, %d deferred", len(c.active), len(c.deferred))
	}
}

func TestVectorFitsIntoAPull(t *testing.T) {
	c := testCore(t)
	for i := range uint64(protocol.MaxVectorItems + 10) {
		c.record(&testBatch(mix(i), 1, 1).Changes[0].Change)
	}
	c.vec.Adopt(c.set.Instance, vector.Mark{Seq: 1, HLC: 1})
	done := &protocol.PeerDone{Full: true, Vector: []protocol.VectorItem{{Instance: mix(0), Seq: 9, HLC: 9}, {Instance: 77, Seq: 1, HLC: 1}}}
	c.OnPullDone("a:1", 1, new(PullState), done)
	if c.vec.Prefix(mix(0)).Seq != 9 || c.vec.Has(77) {
		t.Fatal("what is known does not move, or more becomes known")
	}
	pull := protocol.PeerPull{Vector: vectorItems(c.vec)}
	if _, err := protocol.DecodePull(protocol.EncodeCBOR(&pull)); err != nil {
		t.Fatal(err)
	}
}

// One change from far in the future must not have all that a peer holds sent
// again and again for the others, which it keeps from counting as received.
func TestLateCopyIsNotRepeatedAtOnce(t *testing.T) {
	c := joined(t)
	future := testBatch(3, 0, 1).Changes
	future[0].Entry.Version.HLC = 1 << 63
	copies := 0
	for s := 1; s <= 600; s++ {
		h := testHead("a", 1, uint64(s+2), 5)
		c.at(time.Duration(s)*time.Second).OnHead(h, ViaMQTT)
		c.Tick()
		for _, addr := range dials(c) {
			c.OnHello(addr, testHello("a", 1))
			if c.PullFrom(addr, 1) != nil {
				copies++
				st := new(PullState)
				c.OnEntries(st, future)
				c.OnPullDone(addr, 1, st, &protocol.PeerDone{Full: true, Vector: []protocol.VectorItem{{Instance: 1, Seq: 5, HLC: 5}}})
			}
			c.OnDialEnded(addr, nil)
		}
	}
	if copies < 1 || copies > 3 {
		t.Fatalf("%d full copies in ten minutes", copies)
	}
}

func TestPresenceThatIsNewerClearsDown(t *testing.T) {
	c := joined(t)
	up, down := &Presence{Instance: 1, NodeID: "a", Address: "a:1", Up: true}, &Presence{Instance: 1, NodeID: "a", Address: "a:1"}
	c.OnPresence(up, 5)
	c.OnPresence(down, 4) // the will was made before
	if c.live(c.peers[1]) {
		t.Fatal("a will does not count")
	}
	c.OnPresence(up, 5)
	if c.live(c.peers[1]) {
		t.Fatal("a presence from before counts")
	}
	c.OnPresence(up, 7)
	if !c.live(c.peers[1]) {
		t.Fatal("a newer presence does not count")
	}
}

func TestDialsAtOnceAreBoundedAndFair(t *testing.T) {
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("h%02d:1", i))
	}
	c := testCore(t, names...)
	seen := make(map[string]bool)
	for s := 1; s < 60 && len(seen) < len(names); s++ {
		c.at(time.Duration(s) * time.Second).Tick()
		var busy []string
		for addr, e := range c.endpoints {
			if e.busy {
				busy = append(busy, addr)
			}
		}
		if len(busy) > maxDials {
			t.Fatalf("%d dials at once", len(busy))
		}
		for _, addr := range busy {
			seen[addr] = true
			c.OnDialEnded(addr, errTest)
		}
	}
	if len(seen) != len(names) {
		t.Fatalf("%d of %d were ever dialled", len(seen), len(names))
	}
}
