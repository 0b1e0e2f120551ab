package replication

import (
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// equalAt reports whether the first closed epoch in a's head was reached with equal
// vectors.
func equalAt(t *testing.T, c *Core) bool {
	t.Helper()
	for _, p := range c.Status().Peers {
		if p.Instance == 1 && len(p.Epochs) > 0 {
			return p.Epochs[0].VectorsEqual
		}
	}
	t.Fatal("a tells of no epoch")
	return false
}

// A peer whose heads have no room for this node has received the same if it leaves
// out the same, own changes included; without them, only as long as there were none
// at the epoch.
func TestOwnChangesAmongWhatAHeadLeavesOut(t *testing.T) {
	digest := func(own uint64) (d Digest) {
		d.add(9, 2)
		if own > 0 {
			d.add(50, own)
		}
		return d
	}
	const now = coreEpoch + 1 // of own changes
	for _, tt := range []struct {
		name  string
		rest  Digest
		epoch int64
		equal bool
	}{
		{"all own changes", digest(3), now, true},
		{"all own changes, at an epoch before", digest(3), now - 1, true},
		{"not all own changes", digest(2), now, false},
		{"no own change", digest(0), now, false},
		{"no own change, and there was none", digest(0), now - 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, f := rooted(t)
			for seq := range uint64(2) {
				c.OnBatch(batchOf(change(9, seq+1, coreEpoch)))
			}
			for range 3 {
				c.rep.(*mapReplica).set("own", nil)
			}
			f.seal(now, 'r', c.rep.LogHead())
			c.readOwn()
			h := rootHead(5, tt.epoch, 'r', 0)
			h.Rest = tt.rest
			c.OnHead(h, ViaTCP)
			if got := equalAt(t, c); got != tt.equal {
				t.Errorf("vectors are equal: %v, want %v", got, tt.equal)
			}
		})
	}
}

// Where a sequence ended in an epoch is forgotten with the epoch: a peer that says
// that it had nothing then is not taken to be equal.
func TestForgottenEpochsAreNotEqual(t *testing.T) {
	c, f := rooted(t)
	const long = coreEpoch - 2*keptEpochs
	c.OnBatch(batchOf(change(9, 1, long)))
	c.OnBatch(batchOf(change(9, 2, long+1)))
	f.seal(coreEpoch, 'r', c.rep.LogHead())
	c.Tick()
	h := rootHead(5, long, 'r', 0)
	h.Vector = []protocol.VectorItem{{Instance: 9, Seq: 2, HLC: uint64(hlc.At((long + 1) * hlc.MillisPerEpoch))}}
	h.Epochs[0].Marks = []vector.Mark{{}}
	c.OnHead(h, ViaTCP)
	if equalAt(t, c) {
		t.Error("equal at an epoch at which this node held something and the peer nothing")
	}
}
