package replication

import (
	"math"
	"slices"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
)

const (
	headEveryEpoch = 1200 * time.Millisecond // between two heads at most, when each new root makes one
	gapHold        = 5 * time.Second         // how long a gap holds back the roots of what came above it
	forgetHeads    = 30 * time.Second        // a head that is older tells nothing of the present
)

// rootGuard decides which roots may be told. A root and the vector beside it have
// to cover the same changes, or two nodes that lost nothing would seem different.
type rootGuard struct {
	from      int64  // roots of epochs below lack what only others received one by one
	late      int64  // roots of this epoch and later ones may lack a change that was merged
	latePos   uint64 // until the roots cover the log up to here
	told      int64  // newest epoch whose root was published
	youngGaps map[uint64]openGap
}

// openGap is a gap in what was received of an instance.
type openGap struct {
	prefix uint64
	since  time.Duration
}

func newRootGuard() rootGuard {
	return rootGuard{from: math.MinInt64, late: math.MaxInt64, told: math.MinInt64, youngGaps: make(map[uint64]openGap)}
}

// headEvery returns how long to wait for the next head at most.
func (c *Core) headEvery() time.Duration {
	if c.set.Closed != nil {
		return headEveryEpoch
	}
	return headEvery
}

// closed returns what is known of closed epochs, at least one.
func (c *Core) closed() Closed {
	if c.set.Closed != nil {
		if closed := c.set.Closed(); len(closed.Epochs) > 0 {
			return closed
		}
	}
	newest := c.set.Millis()/hlc.MillisPerEpoch - 1
	closed := Closed{Sealed: newest, Epochs: make([]EpochHead, keptEpochs)}
	for i := range closed.Epochs {
		closed.Epochs[i].Epoch = newest - int64(i)
	}
	return closed
}

// mergedFrom takes in that changes were merged, the oldest of an epoch, and the
// newest of those without a place in their origin's sequence of another. The log
// holds them by now: what was sealed before that may not have them.
func (c *Core) mergedFrom(oldest, newestLoose int64) {
	c.raiseFrom(newestLoose)
	if c.set.Closed != nil && oldest <= c.set.Closed().Sealed {
		c.roots.late, c.roots.latePos = min(c.roots.late, oldest), c.rep.LogHead()
	}
}

// raiseFrom says that something up to an epoch was merged otherwise than in the
// order of its origin: roots of epochs below are not told any more.
func (c *Core) raiseFrom(epoch int64) { c.roots.from = max(c.roots.from, epoch) }

// epochsTold returns the closed epochs as they may be told now, newest first: the
// own vector, which is brought up to date, covers what the roots do.
func (c *Core) epochsTold() []EpochHead {
	closed := c.closed()
	c.readOwn() // after the roots: what they hold is in the vector then
	if closed.Drained >= c.roots.latePos {
		c.roots.late = math.MaxInt64
	}
	epochs := slices.Clone(closed.Epochs)
	held := c.heldBack()
	for i := range epochs {
		if e := epochs[i].Epoch; e < c.roots.from || e >= c.roots.late || e >= held {
			epochs[i].Root, epochs[i].Count = nil, 0
		}
	}
	return epochs
}

// heldBack returns the lowest epoch of what came above a young gap. Old gaps hold
// nothing back: it may be that nobody has what is missing. Of the gaps from before
// a restart nothing is known but that they close when what was missed has come;
// until then they count as young.
func (c *Core) heldBack() int64 {
	lowest := int64(math.MaxInt64)
	if c.start.resumed && !c.start.caught && c.now < gapHold {
		lowest = math.MinInt64
	}
	open := make(map[uint64]openGap)
	c.vec.Gaps(func(instance, prefix uint64, epoch int64) {
		g, known := c.roots.youngGaps[instance]
		if !known || g.prefix != prefix {
			g = openGap{prefix: prefix, since: c.now}
		}
		open[instance] = g
		if c.now-g.since < gapHold {
			lowest = min(lowest, epoch)
		}
	})
	c.roots.youngGaps = open
	return lowest
}

// newestRoot returns the newest epoch that has a root.
func newestRoot(epochs []EpochHead) int64 {
	for i := range epochs {
		if epochs[i].Root != nil {
			return epochs[i].Epoch
		}
	}
	return math.MinInt64
}

// rootIsNew reports whether a root may be told that no head has told.
func (c *Core) rootIsNew() bool {
	if c.set.Closed == nil || newestRoot(c.set.Closed().Epochs) <= c.roots.told {
		return false
	}
	return newestRoot(c.epochsTold()) > c.roots.told
}

// epochViews returns a peer's closed epochs beside the own ones.
func (c *Core) epochViews(p *peer, own []EpochHead) []EpochView {
	views := make([]EpochView, 0, len(p.head.Epochs))
	for i := range p.head.Epochs {
		e := &p.head.Epochs[i]
		v := EpochView{Epoch: e.Epoch, Root: e.Root, Count: e.Count, VectorsEqual: c.vectorsEqual(p.head, e)}
		for j := range own {
			if own[j].Epoch == e.Epoch {
				v.Own = own[j].Root
			}
		}
		views = append(views, v)
	}
	return views
}

// vectorsEqual reports whether this node had received at an epoch just what a
// head says that its sender had.
func (c *Core) vectorsEqual(h *Head, e *EpochHead) bool {
	if e.Epoch < c.vec.Oldest() {
		return false // not known any more
	}
	for i, it := range h.Vector {
		if c.vec.At(it.Instance, e.Epoch).Seq != e.Marks[i].Seq {
			return false
		}
	}
	with, without := c.unnamed(h.Vector)
	if h.Rest.Count > 0 && h.Rest == with {
		return true
	}
	// What the head leaves out is not the same as here, unless that is nothing, or
	// is nothing but what came after the epoch.
	if h.Rest.Count > 0 {
		return h.Rest == without && c.vec.At(c.set.Instance, e.Epoch).Seq == 0
	}
	return c.nothingUnnamed(h.Vector, e.Epoch)
}

// nothingUnnamed reports whether nothing had been received at an epoch of the
// instances that a vector does not name.
func (c *Core) nothingUnnamed(items []protocol.VectorItem, epoch int64) bool {
	named := make(map[uint64]bool, len(items))
	for _, it := range items {
		named[it.Instance] = true
	}
	for _, it := range vectorItems(c.vec) {
		if !named[it.Instance] && c.vec.At(it.Instance, epoch).Seq > 0 {
			return false
		}
	}
	return true
}
