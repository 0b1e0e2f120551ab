package store

import "merklekv/pkg/kv"

// draft is a local write before it has a version.
type draft struct {
	entry *kv.Entry
	ref   ref // its record; 0: it is small and written under the log's lock
}

// smallRecord is the size up to which writing a record under the log's lock costs
// less than another lock would.
const smallRecord = 512

// writeLocked takes a slot for a small draft, the one that was released last if
// that fits: where keys are overwritten the slots then follow each other in
// memory as the writes do in time.
func (l *changeLog) writeLocked(d *draft) error {
	size := entrySize(d.entry)
	want := uint32(slotSize(size))
	for i := l.ready.n - 1; i >= 0 && d.ref == 0; i-- {
		if slot := l.ready.slots[i]; slot.size == want {
			l.ready.n--
			l.ready.slots[i] = l.ready.slots[l.ready.n]
			d.ref = slot.ref
		}
	}
	if d.ref == 0 {
		r, err := l.arena.alloc(size)
		if err != nil {
			return err
		}
		d.ref = r
	}
	record(l.arena.at(d.ref)).fill(d.entry)
	return nil
}

// readySlots are free slots that the next writes take.
type readySlots struct {
	slots [4]dead
	n     int
}
