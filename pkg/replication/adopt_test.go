package replication

import (
	"slices"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

func TestEqualRootsEndAGap(t *testing.T) {
	c, _ := rooted(t)
	c.OnHead(rootHead(5, coreEpoch, 'r', 4), ViaMQTT)
	if c.vec.Prefix(9).Seq != 0 || c.wants[9] == nil {
		t.Fatal("a gap is not left to pulls at first")
	}
	c.at(c.now+adoptAfter).OnHead(rootHead(6, coreEpoch, 'x', 4), ViaMQTT)
	if c.vec.Prefix(9).Seq != 0 {
		t.Fatal("marks were taken over with another root")
	}
	c.OnHead(rootHead(7, coreEpoch, 'r', 4), ViaMQTT)
	if c.vec.Prefix(9).Seq != 4 || c.wants[9] != nil || c.rep.LogFloor(9) != 5 {
		t.Fatalf("prefix %v, floor %d", c.vec.Prefix(9), c.rep.LogFloor(9))
	}
	if c.roots.from != coreEpoch {
		t.Fatalf("roots are told from %d on, the marks reach %d", c.roots.from, coreEpoch)
	}
}

// What is missing was made long before the epoch at which it is superseded: between
// the two the sets differ.
func TestNoRootBelowAnAdoptionIsTold(t *testing.T) {
	c, f := rooted(t)
	c.OnBatch(batchOf(change(1, 1, coreEpoch-1))) // what superseded it
	f.seal(coreEpoch, 'r', c.rep.LogHead())
	if got := told(c); len(got) != 4 {
		t.Fatalf("told %v before", got)
	}
	h := rootHead(5, coreEpoch, 'r', 0)
	missed := vector.Mark{Seq: 1, HLC: hlc.At((coreEpoch - 3) * hlc.MillisPerEpoch)}
	newest := vector.Mark{Seq: 1, HLC: hlc.At((coreEpoch-1)*hlc.MillisPerEpoch) + 1}
	h.Last, h.Vector = newest, []protocol.VectorItem{
		{Instance: 1, Seq: 1, HLC: uint64(newest.HLC)}, {Instance: 9, Seq: 1, HLC: uint64(missed.HLC)}}
	h.Epochs[0].Marks = []vector.Mark{newest, missed}
	c.OnHead(h, ViaMQTT)
	h.Counter++
	c.at(c.now+adoptAfter).OnHead(h, ViaMQTT)
	if c.vec.Prefix(9).Seq != 1 {
		t.Fatalf("prefix %v: nothing was adopted", c.vec.Prefix(9))
	}
	if got := told(c); !slices.Equal(got, []int64{0}) {
		t.Fatalf("told %v after an adoption at epoch 0", got)
	}
}

func TestAdoptionAfterASession(t *testing.T) {
	c, _ := rooted(t)
	c.OnHead(rootHead(5, coreEpoch, 'x', 4), ViaMQTT)
	if !c.Adopt(1, coreEpoch, []byte{'x'}) || c.vec.Prefix(9).Seq != 4 || len(c.wants) != 0 {
		t.Fatalf("prefix %v after a session whose root the head tells", c.vec.Prefix(9))
	}
	if c.Adopt(1, coreEpoch, []byte{'y'}) {
		t.Fatal("adopted though the head tells another root")
	}
	c.OnHead(rootHead(6, coreEpoch, 'y', 6), ViaTCP)
	if c.vec.Prefix(9).Seq != 6 {
		t.Fatalf("prefix %v after a head that shows what the session reached", c.vec.Prefix(9))
	}
	c.Adopt(1, coreEpoch, []byte{'z'})
	c.at(c.now + adoptWithin + 1).Tick()
	c.OnHead(rootHead(7, coreEpoch, 'z', 8), ViaTCP)
	if c.vec.Prefix(9).Seq != 6 {
		t.Fatal("adopted long after the session")
	}
}

// Sessions with two peers may end before either's head shows what they reached.
func TestAdoptionsWaitForTheirOwnPeers(t *testing.T) {
	c, _ := rooted(t)
	second := rootHead(5, coreEpoch, 'y', 3)
	second.NodeID, second.Instance, second.Address = "b", 2, "b:1"
	second.Vector[0].Instance = 8
	if c.Adopt(1, coreEpoch, []byte{'x'}) || c.Adopt(2, coreEpoch, []byte{'y'}) {
		t.Fatal("adopted what no head tells")
	}
	c.OnHead(rootHead(5, coreEpoch, 'x', 4), ViaMQTT)
	if c.vec.Prefix(9).Seq != 4 || c.vec.Prefix(8).Seq != 0 {
		t.Fatalf("prefixes %v and %v after the first peer's head", c.vec.Prefix(9), c.vec.Prefix(8))
	}
	c.OnHead(second, ViaMQTT)
	if c.vec.Prefix(8).Seq != 3 || len(c.pending) != 0 {
		t.Fatalf("prefix %v after the second peer's head, %d wait", c.vec.Prefix(8), len(c.pending))
	}
	for i := range uint64(2 * maxPeers) {
		c.Adopt(100+i, coreEpoch, []byte{'z'})
	}
	if len(c.pending) != maxPeers {
		t.Errorf("%d adoptions wait", len(c.pending))
	}
	c.at(c.now + adoptWithin + 1).Tick()
	if len(c.pending) != 0 {
		t.Errorf("%d adoptions wait for ever", len(c.pending))
	}
}

// When an adoption closes the first of two old gaps, what lies above the second one
// is as old as before, and holds no root back.
func TestGapAboveAnAdoptionIsNotYoung(t *testing.T) {
	c, f := rooted(t)
	c.OnBatch(batchOf(change(9, 5, coreEpoch)))
	c.OnBatch(batchOf(change(9, 9, coreEpoch)))
	f.seal(coreEpoch, 'r', c.rep.LogHead())
	if got := told(c); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Fatalf("told %v with young gaps at epoch 0", got)
	}
	c.at(c.now + gapHold)
	if got := told(c); len(got) != 4 {
		t.Fatalf("told %v above old gaps", got)
	}
	c.OnHead(rootHead(5, coreEpoch, 'r', 4), ViaMQTT)
	if !c.Adopt(1, coreEpoch, []byte{'r'}) || c.vec.Prefix(9).Seq != 5 {
		t.Fatalf("prefix %v after the adoption", c.vec.Prefix(9))
	}
	if got := told(c); !slices.Equal(got, []int64{0}) {
		t.Fatalf("told %v after an adoption at epoch 0", got)
	}
}
