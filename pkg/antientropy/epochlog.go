package antientropy

import (
	"cmp"
	"slices"
	"sort"

	"merklekv/pkg/internal/prefix"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// epochLog holds what was stamped in one epoch, or in all epochs that lie between
// two closed ones: of each name the greatest version. It has no pointers into
// anything, so it costs the collector nothing.
type epochLog struct {
	after int64  // epochs after this one
	epoch int64  // up to this one
	slab  []byte // names: keys and facets
	recs  []rec  // sorted by name, each once
	fresh []rec  // arrived since, in no order
}

// rec is one version of a (key, facet), without its value.
type rec struct {
	name     uint32 // where the name begins in the slab
	key      uint16 // length
	facet    uint8  // length
	flags    kv.Flags
	lost     bool // it arrived after a greater one
	version  kv.Version
	replaced kv.Version // the greatest one known of earlier epochs, zero for none
	expires  int64      // Unix milliseconds
	tag      merkle.Tag
}

// reset empties a log for other epochs and keeps its memory.
func (l *epochLog) reset(after, epoch int64) {
	*l = epochLog{after: after, epoch: epoch, slab: l.slab[:0], recs: l.recs[:0], fresh: l.fresh[:0]}
}

func (l *epochLog) key(r *rec) []byte { return l.slab[r.name : r.name+uint32(r.key)] }

func (l *epochLog) facet(r *rec) []byte {
	start := r.name + uint32(r.key)
	return l.slab[start : start+uint32(r.facet)]
}

// entry returns a record as kv's rules want it, without its value.
func (l *epochLog) entry(r *rec) kv.Entry {
	return kv.Entry{Key: l.key(r), Facet: l.facet(r), Version: r.version, Flags: r.flags, ExpiresAt: r.expires}
}

// maxSlab bounds the names of one log, in bytes: they have places of 32 bits.
const maxSlab = 1<<32 - 1<<16

// add takes note of a change, and reports false if there is no room for it.
func (l *epochLog) add(c *kv.Logged, tag merkle.Tag) bool {
	if len(l.slab) > maxSlab {
		return false
	}
	e := &c.Entry
	r := rec{
		name: uint32(len(l.slab)), key: uint16(len(e.Key)), facet: uint8(len(e.Facet)), flags: e.Flags, lost: c.Lost,
		version: e.Version, expires: e.ExpiresAt, tag: tag, replaced: c.Replaced,
	}
	l.slab = append(append(l.slab, e.Key...), e.Facet...)
	l.fresh = append(l.fresh, r)
	return true
}

// compare orders two records of one log by their names.
func (l *epochLog) compare(a, b *rec) int {
	return merkle.CompareNames(l.key(a), l.facet(a), l.key(b), l.facet(b))
}

// settle brings what is fresh into order.
func (l *epochLog) settle() {
	if len(l.fresh) == 0 {
		return
	}
	sorted := l.sortFresh()
	if len(l.recs) == 0 {
		l.recs, l.fresh = sorted, l.fresh[:0]
		return
	}
	merged := make([]rec, 0, len(l.recs)+len(sorted))
	old := l.recs
	for len(old) > 0 || len(sorted) > 0 {
		order := -1
		switch {
		case len(old) == 0:
			order = 1
		case len(sorted) > 0:
			order = l.compare(&old[0], &sorted[0])
		}
		switch {
		case order < 0:
			merged, old = append(merged, old[0]), old[1:]
		case order > 0:
			merged, sorted = append(merged, sorted[0]), sorted[1:]
		default:
			merged = append(merged, l.join(old[0], sorted[0]))
			old, sorted = old[1:], sorted[1:]
		}
	}
	l.recs, l.fresh = merged, l.fresh[:0]
}

// sortFresh returns what is fresh by name, each name once.
func (l *epochLog) sortFresh() []rec {
	order := l.order(l.fresh)
	sorted := l.recs[:0]
	if len(l.recs) > 0 || cap(sorted) < len(order) {
		sorted = make([]rec, 0, len(order))
	}
	for _, o := range order {
		r := l.fresh[o.at]
		if n := len(sorted); n > 0 && l.compare(&sorted[n-1], &r) == 0 {
			sorted[n-1] = l.join(sorted[n-1], r)
			continue
		}
		sorted = append(sorted, r)
	}
	return sorted
}

// sortKey is a record's place with the beginning of its key, so that most
// comparisons touch nothing else.
type sortKey struct {
	head uint64
	at   uint32
}

// order returns the records' places by name; records of one name keep theirs.
func (l *epochLog) order(recs []rec) []sortKey {
	skip := l.sharedPrefix(recs)
	order := make([]sortKey, len(recs))
	for i := range recs {
		order[i] = sortKey{prefix.Head(l.key(&recs[i])[skip:]), uint32(i)}
	}
	slices.SortFunc(order, func(a, b sortKey) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		if c := l.compare(&recs[a.at], &recs[b.at]); c != 0 {
			return c
		}
		return cmp.Compare(a.at, b.at)
	})
	return order
}

// sharedPrefix returns how many bytes all keys begin with in common.
func (l *epochLog) sharedPrefix(recs []rec) int {
	if len(recs) == 0 {
		return 0
	}
	first := l.key(&recs[0])
	for i := range recs {
		first = first[:prefix.Shared(first, l.key(&recs[i]))]
	}
	return len(first)
}

// join makes one of two records of a name: the greater version, and what is
// known of earlier epochs.
func (l *epochLog) join(a, b rec) rec {
	if a.version.Less(b.version) {
		a, b = b, a
	}
	a.lost = a.lost && b.lost
	a.replaced = greater(l.before(a.replaced), l.before(b.replaced))
	return a
}

// before returns v if it belongs to an earlier epoch than this log's.
func (l *epochLog) before(v kv.Version) kv.Version {
	if v.Epoch() > l.after {
		return kv.Version{}
	}
	return v
}

func greater(a, b kv.Version) kv.Version {
	if a.Less(b) {
		return b
	}
	return a
}

// find returns the record of a name, nil if there is none. The log is settled.
func (l *epochLog) find(key, facet []byte) *rec {
	i := sort.Search(len(l.recs), func(i int) bool {
		return merkle.CompareNames(l.key(&l.recs[i]), l.facet(&l.recs[i]), key, facet) >= 0
	})
	if i == len(l.recs) {
		return nil
	}
	if r := &l.recs[i]; merkle.CompareNames(l.key(r), l.facet(r), key, facet) == 0 {
		return r
	}
	return nil
}

// inherit notes, for the names that both logs have, what the earlier one held.
// Both are settled.
func (l *epochLog) inherit(earlier *epochLog) {
	i := 0
	for j := range l.recs {
		r := &l.recs[j]
		key, facet := l.key(r), l.facet(r)
		order := -1
		for ; i < len(earlier.recs); i++ {
			e := &earlier.recs[i]
			if order = merkle.CompareNames(earlier.key(e), earlier.facet(e), key, facet); order >= 0 {
				break
			}
		}
		if i == len(earlier.recs) {
			return
		}
		if order == 0 {
			r.replaced = greater(r.replaced, earlier.recs[i].version)
		}
	}
}

// absorb takes in what another log holds, which is settled.
func (l *epochLog) absorb(other *epochLog) {
	base := uint32(len(l.slab))
	l.slab = append(l.slab, other.slab...)
	for _, r := range other.recs {
		r.name += base
		l.fresh = append(l.fresh, r)
	}
}
