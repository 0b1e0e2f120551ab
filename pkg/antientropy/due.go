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
type dueList map[int64][]byte

const dueTag = 8 // bytes of a tag

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

func (d dueList) add(epoch int64, e *kv.Entry, tag merkle.Tag) {
	b := binary.BigEndian.AppendUint16(d[epoch], uint16(len(e.Key)))
	b = append(append(append(b, byte(len(e.Facet))), e.Key...), e.Facet...)
	d[epoch] = append(b, tag[:dueTag]...)
}

// between appends removals for what is due after one epoch and up to another, as
// far as the tree still holds it.
func (d dueList) between(after, upTo int64, t merkle.Tree, updates []merkle.Update) []merkle.Update {
	if upTo-after > int64(len(d)) {
		for epoch := range d {
			if epoch > after && epoch <= upTo {
				updates = appendDue(d[epoch], t, updates)
			}
		}
		return updates
	}
	for epoch := after + 1; epoch <= upTo; epoch++ {
		updates = appendDue(d[epoch], t, updates)
	}
	return updates
}

func appendDue(b []byte, t merkle.Tree, updates []merkle.Update) []merkle.Update {
	for len(b) > 0 {
		key, facet := int(binary.BigEndian.Uint16(b)), int(b[2])
		name := b[3 : 3+key+facet]
		want := b[3+key+facet:][:dueTag]
		b = b[3+key+facet+dueTag:]
		if tag, there := t.Get(name[:key], name[key:]); there && string(tag[:dueTag]) == string(want) {
			updates = append(updates, merkle.Update{Key: name[:key], Facet: name[key:], Remove: true})
		}
	}
	return updates
}

// drop forgets what was due up to an epoch.
func (d dueList) drop(upTo int64) {
	for epoch := range d {
		if epoch <= upTo {
			delete(d, epoch)
		}
	}
}
