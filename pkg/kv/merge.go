package kv

import (
	"bytes"
	"crypto/sha256"
)

// Compare orders two entries of the same (key, facet): the greater one wins
// the merge. It returns -1, 0 or +1.
//
// The version decides. Equal versions mean the same write seen twice, except
// where something is corrupt; then a tombstone beats a value, and the rest is
// broken by the greater SHA-256 of the content, so that all nodes still agree.
func Compare(a, b *Entry) int {
	if c := a.Version.Compare(b.Version); c != 0 {
		return c
	}
	if a.IsTombstone() != b.IsTombstone() {
		if a.IsTombstone() {
			return 1
		}
		return -1
	}
	if a.Flags == b.Flags && a.ExpiresAt == b.ExpiresAt && bytes.Equal(a.Value, b.Value) {
		return 0
	}
	ha, hb := sha256.Sum256(a.AppendContent(nil)), sha256.Sum256(b.AppendContent(nil))
	return bytes.Compare(ha[:], hb[:])
}

// Merge returns the entry that wins, of two of the same (key, facet).
func Merge(a, b Entry) Entry {
	if Compare(&a, &b) >= 0 {
		return a
	}
	return b
}

// Outcome says what became of an entry that was offered to a replica.
type Outcome uint8

const (
	// Applied: the entry won the merge and is now what the replica holds.
	Applied Outcome = iota
	// Lost: the replica holds a greater version.
	Lost
	// Known: the replica holds this very entry already.
	Known
	// Deferred: the entry's version is further in the future than the clock
	// may drift. It counts as not yet received, and must be offered again.
	Deferred
)

// String returns the outcome in lower case, as metrics name it.
func (o Outcome) String() string {
	switch o {
	case Applied:
		return "applied"
	case Lost:
		return "lost"
	case Known:
		return "known"
	case Deferred:
		return "deferred"
	}
	return "unknown"
}
