package replication

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	adoptAfter  = 2 * time.Second  // how long a gap is left to pulls
	adoptWithin = 10 * time.Second // for a peer's head to show what a session reached
)

// adoption is what a session reached: this node and a peer have the same set at an
// epoch.
type adoption struct {
	epoch int64
	root  []byte
	until time.Duration
}

// Adopt takes in that a session with a peer succeeded: at an epoch both have the
// set with this root. What the peer had received then counts as received here,
// once a head of it tells the same root of that epoch, within 10 s. It reports
// whether the last one does. Of each peer the last session counts.
func (c *Core) Adopt(instance uint64, epoch int64, root []byte) bool {
	if _, there := c.pending[instance]; !there && len(c.pending) >= maxPeers {
		return false
	}
	c.pending[instance] = adoption{epoch, bytes.Clone(root), c.now + adoptWithin}
	if p := c.peers[instance]; p != nil && p.head != nil {
		c.adoptPending(p)
	}
	c.assess()
	_, waits := c.pending[instance]
	return !waits
}

// adoptPending adopts what a session reached if the peer's head shows it.
func (c *Core) adoptPending(p *peer) {
	a, there := c.pending[p.instance]
	if !there {
		return
	}
	for i := range p.head.Epochs {
		if e := &p.head.Epochs[i]; e.Epoch == a.epoch && e.Root != nil && bytes.Equal(e.Root, a.root) {
			if c.adoptMarks(p.head, e) && !c.hasRoot(e) {
				// Where both held something newer than the epoch, that was all that was
				// compared: what the peer had at the epoch is not here. Only sets that
				// hold all newer things are again what the vector says.
				c.raiseFrom(c.rep.Greatest().Epoch())
			}
			delete(c.pending, p.instance)
			return
		}
	}
}

// hasRoot reports whether the own root of a peer's epoch is the peer's.
func (c *Core) hasRoot(e *EpochHead) bool {
	return slices.ContainsFunc(c.closed().Epochs, func(own EpochHead) bool {
		return own.Epoch == e.Epoch && bytes.Equal(own.Root, e.Root)
	})
}

// dropPending forgets adoptions that no head has shown.
func (c *Core) dropPending() {
	maps.DeleteFunc(c.pending, func(_ uint64, a adoption) bool { return c.now > a.until })
}

// adoptFrom takes over what a peer had received at an epoch of which both tell the
// same root: either a session has just reached that, or something counts as
// missing here that no pull brings, and that was superseded.
func (c *Core) adoptFrom(p *peer) {
	c.adoptPending(p)
	if c.set.Closed == nil || p.head.Params != c.set.Params || !c.missesFor(p, adoptAfter) {
		return
	}
	own := c.epochsTold()
	for i := range p.head.Epochs {
		e := &p.head.Epochs[i]
		if e.Root == nil || !slices.ContainsFunc(own, func(o EpochHead) bool {
			return o.Epoch == e.Epoch && bytes.Equal(o.Root, e.Root)
		}) {
			continue
		}
		c.adoptMarks(p.head, e)
		return
	}
}

// missesFor reports whether something that a peer holds has been missing here for
// a time.
func (c *Core) missesFor(p *peer, d time.Duration) bool {
	for origin, w := range c.wants {
		if c.now-w.since >= d && p.known[origin].Seq > c.vec.Prefix(origin).Seq {
			return true
		}
	}
	return false
}

// adoptMarks counts as received what a peer had received at an epoch, whose roots
// are equal. The log never held those changes. What superseded them may be as new as
// the epoch, so no root of an earlier one is told any more: there, the vector claims
// what the set lacks. It reports whether anything was missing.
func (c *Core) adoptMarks(h *Head, e *EpochHead) (changed bool) {
	for i, it := range h.Vector {
		m := e.Marks[i]
		if it.Instance == c.set.Instance || m.Seq == 0 || !c.room(it.Instance) || !c.vec.Adopt(it.Instance, m) {
			continue
		}
		changed = true
		c.touch(it.Instance)
		c.rep.RaiseLogFloor(it.Instance, m.Seq, m.HLC)
		if g, open := c.roots.youngGaps[it.Instance]; open {
			// What lies above the next gap lay above this one: nothing new came.
			c.roots.youngGaps[it.Instance] = openGap{c.vec.Prefix(it.Instance).Seq, g.since}
		}
	}
	if changed {
		c.raiseFrom(e.Epoch)
		c.met.adopted.Inc()
		c.log.Info("changes that counted as missing are superseded", "epoch", e.Epoch,
			"peer", h.NodeID, "instance", fmt.Sprintf("%016x", h.Instance))
	}
	return changed
}

// unfillable returns the origins whose missing changes no live peer's log holds.
func (c *Core) unfillable() []Unfillable {
	var list []Unfillable
	for _, origin := range slices.Sorted(maps.Keys(c.wants)) {
		if w := c.wants[origin]; w.stuck != never {
			list = append(list, Unfillable{Origin: origin, Holder: w.holder, Since: c.now - w.stuck})
		}
	}
	return list
}

// hopes reports whether an instance may have in its log what is missing. When
// nobody does, all are asked again, ever more slowly.
func (w *want) hopes(instance uint64) bool { return w.stuck != never || !w.refused[instance] }

// refusedBy takes in that a peer answered a pull without the next missing change of
// an origin.
func (w *want) refusedBy(instance uint64) {
	if w.refused == nil {
		w.refused = make(map[uint64]bool)
	}
	w.refused[instance] = true
}

// judgeStuck finds out whether a want is left to a session: every live peer that
// holds what is missing, and can be dialled, has answered without it.
func (c *Core) judgeStuck(origin uint64, w *want) {
	candidates, most := 0, uint64(0)
	for _, p := range c.livePeers() {
		held := p.known[origin].Seq
		if held <= w.prefix {
			continue
		}
		if !w.refused[p.instance] {
			if e, busy := c.endpointOf(p); e != nil || busy {
				w.stuck = never
				return
			}
			continue
		}
		candidates++
		if held > most {
			most, w.holder = held, p.instance
		}
	}
	switch {
	case candidates == 0:
		w.stuck = never
	case w.stuck == never:
		w.stuck = c.now
	}
}
