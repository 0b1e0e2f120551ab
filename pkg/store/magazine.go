package store

// magazine keeps a few free slots at hand for a shard, under the shard's lock.
// Where keys are overwritten with values of their size, each write takes the
// slot that the last one released, still warm in the cache, and the arena's lock
// is left alone.
type magazine struct {
	slots [8]freeSlot
	n     int
}

type freeSlot struct {
	ref  ref
	size uint32
}

// magazineMax is the largest slot kept back, in bytes.
const magazineMax = smallMax

// alloc returns a slot of at least size bytes.
func (m *magazine) alloc(a *arena, size int) (ref, error) {
	want := uint32(slotSize(size))
	for i := m.n - 1; i >= 0; i-- {
		if s := m.slots[i]; s.size == want {
			m.n--
			m.slots[i] = m.slots[m.n]
			return s.ref, nil
		}
	}
	return a.alloc(size)
}

// free takes a slot of size bytes back.
func (m *magazine) free(a *arena, r ref, size int) {
	if size > magazineMax {
		a.free(r, size)
		return
	}
	s := freeSlot{ref: r, size: uint32(slotSize(size))}
	poison(a.at(r)[:s.size])
	if m.n < len(m.slots) {
		m.slots[m.n] = s
		m.n++
		return
	}
	oldest := m.slots[0]
	copy(m.slots[:], m.slots[1:])
	m.slots[m.n-1] = s
	a.free(oldest.ref, int(oldest.size))
}
