package kv

import "merklekv/pkg/hlc"

// floor returns the greatest version at or below which everything of the key is
// dead at an instant: the version of its empty facet, the truncation mark, and
// the instant of its expiry once that has passed. It is for clients' keys:
// reserved entries are exempt from the mark and have no reader.
//
// base is the entry of the empty facet, nil if the key has none.
func floor(base *Entry, mark Version, now int64) Version {
	f := mark
	if base == nil {
		return f
	}
	f = maxVersion(f, base.Version)
	if base.Flags&HasExpiry != 0 && base.ExpiresAt <= now {
		f = maxVersion(f, Version{HLC: hlc.At(base.ExpiresAt)})
	}
	return f
}

func maxVersion(a, b Version) Version {
	if a.Less(b) {
		return b
	}
	return a
}

// base returns the entry of the empty facet, nil if there is none.
func base(entries []Entry) *Entry {
	for i := range entries {
		if len(entries[i].Facet) == 0 {
			return &entries[i]
		}
	}
	return nil
}

// Alive reports whether an entry of the empty facet shows a value to a reader:
// it is no tombstone, it has not expired at now (Unix milliseconds), and it is
// not at or below the truncation mark.
func (e *Entry) Alive(mark Version, now int64) bool {
	return !e.IsTombstone() &&
		(e.Flags&HasExpiry == 0 || e.ExpiresAt > now) &&
		mark.Less(e.Version)
}

// Visible is what a reader sees of a key.
type Visible struct {
	OK        bool // whether the key exists for a reader
	Version   Version
	Value     []byte // shares the entry's memory
	ExpiresAt int64  // Unix milliseconds, 0 for never
	// Floor is the greatest version at or below which everything of this key is
	// dead, also when OK is false.
	Floor Version
}

// View returns what a reader sees of one key at an instant. entries are all
// facets of the key, in any order; mark is the version of the truncation mark
// (zero if there is none); now is in Unix milliseconds.
//
// The plain register shows its empty facet. Facets of a kind that this format
// version does not read are kept and replicated, and show nothing.
func View(entries []Entry, mark Version, now int64) Visible {
	b := base(entries)
	v := Visible{Floor: floor(b, mark, now)}
	if b == nil || !b.Alive(mark, now) {
		return v
	}
	v.OK, v.Version, v.Value = true, b.Version, b.Value
	if b.Flags&HasExpiry != 0 {
		v.ExpiresAt = b.ExpiresAt
	}
	return v
}

// Cut returns which of one key's entries belong to the set S_e that the root of
// epoch e covers: element i of the result says whether entries[i] is in it.
// entries hold for each facet the greatest version with an epoch of at most e;
// mark is the truncation mark of S_e itself; grace is the tombstone grace in
// epochs.
//
// Hidden are tombstones and expired entries once they are older than the grace
// and the expiry respectively, and what the mark kills. All of it depends on e
// alone and on no node's progress, so replicas that hold the same entries have
// equal roots, whatever each of them has already collected.
//
// Reserved entries are exempt from the mark.
func Cut(entries []Entry, mark Version, grace, e int64) []bool {
	return AppendCut(make([]bool, 0, len(entries)), entries, mark, grace, e)
}

// AppendCut is Cut into memory that the caller has already.
func AppendCut(in []bool, entries []Entry, mark Version, grace, e int64) []bool {
	for i := range entries {
		in = append(in, !hiddenAt(&entries[i], mark, grace, e))
	}
	return in
}

// hiddenAt reports whether the set at epoch e hides an entry.
func hiddenAt(entry *Entry, mark Version, grace, e int64) bool {
	switch {
	case entry.Version.Epoch() > e:
		return true
	case !entry.IsReserved() && !mark.Less(entry.Version):
		return true
	case entry.IsTombstone():
		return entry.Version.Epoch()+grace <= e
	case entry.Flags&HasExpiry != 0:
		return hlc.At(entry.ExpiresAt).Epoch() <= e
	}
	return false
}
