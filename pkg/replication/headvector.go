package replication

import (
	"cmp"
	"slices"
	"time"

	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// Room in the body of a head, in bytes.
const (
	headRoom     = 4 << 10 // for all but vector, epochs' vectors and deferrals
	deferredRoom = 28      // for one deferral
)

// fillVector puts as much of the vector into a head as has room there, and what
// it was at each epoch: this instance first, then those of which something came
// last. The rest goes into the digest.
func (c *Core) fillVector(h *Head) {
	items := vectorItems(c.vec)
	slices.SortStableFunc(items, func(a, b protocol.VectorItem) int {
		return cmp.Compare(c.idle(a.Instance), c.idle(b.Instance))
	})
	room := MaxBody - headRoom - peersRoom - deferredRoom*len(h.Deferred)
	for _, it := range items {
		room -= c.headCost(h, it)
		if c.idle(it.Instance) > forgetAfter || room < 0 || len(h.Vector) == maxHeadItems {
			h.Rest.add(it.Instance, it.Seq)
			continue
		}
		h.Vector = append(h.Vector, it)
	}
	slices.SortFunc(h.Vector, func(a, b protocol.VectorItem) int { return cmp.Compare(a.Instance, b.Instance) })
	for i := range h.Epochs {
		e := &h.Epochs[i]
		e.Marks = make([]vector.Mark, len(h.Vector))
		for j, it := range h.Vector {
			e.Marks[j] = c.vec.At(it.Instance, e.Epoch)
		}
	}
}

// headCost returns how many bytes an item takes in a head.
func (c *Core) headCost(h *Head, it protocol.VectorItem) int {
	n := 1 + uintLen(it.Instance) + uintLen(it.Seq) + uintLen(it.HLC)
	for i := range h.Epochs {
		m := c.vec.At(it.Instance, h.Epochs[i].Epoch)
		n += uintLen(it.Seq-m.Seq) + uintLen(it.HLC-uint64(m.HLC))
	}
	return n
}

// uintLen returns the length of a number in CBOR, in bytes.
func uintLen(n uint64) int {
	switch {
	case n < 24:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	case n < 1<<32:
		return 5
	}
	return 9
}

// touch notes that something of an instance has come.
func (c *Core) touch(instance uint64) {
	if _, there := c.active[instance]; there || len(c.active) < maxActive {
		c.active[instance] = c.now
	}
}

// room reports whether the vector has room for an instance: what it holds, with
// this one, has to go into a pull.
func (c *Core) room(instance uint64) bool {
	return c.vec.Len() < protocol.MaxVectorItems-1 || c.vec.Has(instance)
}

// idle returns for how long nothing has come of an instance; below 0 for this
// one.
func (c *Core) idle(instance uint64) time.Duration {
	if instance == c.set.Instance {
		return -1
	}
	if at, seen := c.active[instance]; seen {
		return c.now - at
	}
	return 2 * forgetAfter
}
