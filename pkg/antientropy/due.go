package antientropy

import (
	"encoding/binary"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// dueList holds, by epoch, the names that leave the set then: tombstones that
// have been remembered for long enough, and what expires. Each comes with the
// beginning of its tag, so that one that was replaced meanwhile is left alone.
//
//	u16 |key| | u8 |facet| | key | facet | first 8 bytes of the tag
type dueList struct {
	by      map[int64][]byte
	bytes   int
	sweepAt int // bytes at which notes that mean nothing any more are dropped
}

const (
	dueTag   = 8       // bytes of a tag
	dueSweep = 1 << 20 // bytes that are no matter
)

func newDueList() *dueList { return &dueList{by: make(map[int64][]byte), sweepAt: dueSweep} }

// dueEpoch returns the epoch at which an entry leaves the set, and whether it
// ever does by itself.
func dueEpoch(e *kv.Entry, grace int64) (int64, bool) {
	switch {
	case e.IsTombstone():
		return e.Version.Epoch() + grace, true
	case e.Flags&kv.HasExpiry != 0:
		return hlc.At(e.ExpiresAt).Epoch(), true
	}
	return 0, false
}

func (d *dueList) add(epoch int64, e *kv.Entry, tag merkle.Tag) {
	before := d.by[epoch]
	b := binary.BigEndian.AppendUint16(before, uint16(len(e.Key)))
	b = append(append(append(b, byte(len(e.Facet))), e.Key...), e.Facet...)
	b = append(b, tag[:dueTag]...)
	d.by[epoch] = b
	d.bytes += len(b) - len(before)
}

// note is one name that is due.
type note struct {
	key, facet, tag []byte // tag is its beginning
	all             []byte // the note as it is kept
}

// nextNote returns the first note of b and what follows it.
func nextNote(b []byte) (n note, rest []byte) {
	key, facet := int(binary.BigEndian.Uint16(b)), int(b[2])
	end := 3 + key + facet + dueTag
	n = note{key: b[3 : 3+key], facet: b[3+key : 3+key+facet], tag: b[end-dueTag : end], all: b[:end]}
	return n, b[end:]
}

// stands reports whether the set still holds what the note is about.
func (n *note) stands(t merkle.Tree) bool {
	tag, there := t.Get(n.key, n.facet)
	return there && string(tag[:dueTag]) == string(n.tag)
}

// between returns removals for what is due after one epoch and up to another, as
// far as the tree still holds it.
func (d *dueList) between(after, upTo int64, t merkle.Tree) (gone []merkle.Update) {
	for epoch, b := range d.by {
		for epoch > after && epoch <= upTo && len(b) > 0 {
			var n note
			if n, b = nextNote(b); n.stands(t) {
				gone = append(gone, merkle.Update{Key: n.key, Facet: n.facet, Remove: true})
			}
		}
	}
	return gone
}

// drop forgets what was due up to an epoch.
func (d *dueList) drop(upTo int64) {
	for epoch, b := range d.by {
		if epoch <= upTo {
			d.bytes -= len(b)
			delete(d.by, epoch)
		}
	}
}

// sweep drops the notes of what is no longer in the set, once they may have become
// half of all: a key that is deleted again and again leaves one each time.
func (d *dueList) sweep(t merkle.Tree) {
	if d.bytes < d.sweepAt {
		return
	}
	d.bytes = 0
	for epoch, b := range d.by {
		var left []byte
		for len(b) > 0 {
			var n note
			if n, b = nextNote(b); n.stands(t) {
				left = append(left, n.all...)
			}
		}
		if d.by[epoch] = left; len(left) == 0 {
			delete(d.by, epoch)
		}
		d.bytes += len(left)
	}
	d.sweepAt = max(dueSweep, 2*d.bytes)
}
