package replication

import (
	"cmp"
	"slices"

	"merklekv/pkg/journal"
	"merklekv/pkg/vector"
)

// resumption is the start of a node that kept what it had received before.
type resumption struct {
	resumed  bool              // something was kept
	goal     map[uint64]uint64 // by origin: what the first head of each peer showed
	compared bool              // some peer's head came
	caught   bool              // all of the goal was reached, or is left to sessions
}

// resume takes in what was received before the start. The replica holds what it
// left behind, but its log holds none of it. Of more origins than a vector may
// name, those with the newest changes are taken; the others are fetched again.
func (c *Core) resume(received []journal.Mark) {
	newest := slices.SortedFunc(slices.Values(received), func(a, b journal.Mark) int {
		return cmp.Or(cmp.Compare(b.Stamp, a.Stamp), cmp.Compare(a.Origin, b.Origin))
	})
	for _, m := range newest {
		if m.Seq == 0 || m.Origin == c.set.Instance || !c.room(m.Origin) {
			continue
		}
		c.vec.Adopt(m.Origin, vector.Mark{Seq: m.Seq, HLC: m.Stamp})
		if c.rep.LogFloor(m.Origin) <= m.Seq {
			c.rep.RaiseLogFloor(m.Origin, m.Seq, m.Stamp)
		}
		// What was superseded before is not known any more.
		c.raiseFrom(m.Stamp.Epoch())
		// Named in heads, or peers that still name it would see a difference in what
		// heads leave out, as soon as it goes on.
		c.touch(m.Origin)
		c.start.resumed = true
	}
	if c.start.resumed {
		c.pulled = true // what is missing is a gap like any other
		c.start.goal = make(map[uint64]uint64)
		c.log.Info("going on with what was received before", "origins", c.vec.Len())
	}
}

// aim makes what a peer's first head shows the goal of a node that resumes: what
// is made from then on is no concern of the start.
func (c *Core) aim(p *peer) {
	if !c.start.resumed || c.ready {
		return
	}
	if !c.start.compared {
		c.start.compared, c.answered = true, c.now
	}
	if p.pausedNow() {
		return // it gives nothing
	}
	for origin, m := range p.known {
		if origin != c.set.Instance {
			c.start.goal[origin] = max(c.start.goal[origin], m.Seq)
		}
	}
}

// caughtUp reports whether a node that resumes has what its peers had when it first
// heard of them, but for what is put off or no log holds any more: that is left to
// sessions.
func (c *Core) caughtUp() bool {
	if !c.start.compared {
		return false
	}
	if c.takesNothing() {
		return true // nothing will come
	}
	for origin, seq := range c.start.goal {
		w := c.wants[origin]
		if w != nil && w.stuck == never && c.vec.Prefix(origin).Seq < seq {
			return false
		}
	}
	return true
}

// behind returns of how many origins something of the goal is missing.
func (c *Core) behind() (n int) {
	for origin, seq := range c.start.goal {
		if c.vec.Prefix(origin).Seq < seq {
			n++
		}
	}
	return n
}
