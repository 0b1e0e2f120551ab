package antientropy

import (
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// Build makes the set anew from all entries that are held, at an instant in Unix
// milliseconds: at the start, and when a truncation has emptied it. What had been
// superseded is not known any more, so no root is told of an epoch before the
// newest entry's.
func (x *Index) Build(millis int64) {
	for head := x.src.LogHead(); x.src.Pos() < head && x.src.Read(readAtOnce, func(*kv.Logged) {}) > 0; {
	}
	var b builder
	x.src.Dump(b.take)
	x.from = b.newest
	if len(b.all.fresh) == 0 {
		x.from = never
	}
	base := max(b.newest, epochAt(millis-x.tail)-1)
	x.mark, x.due = b.mark, make(dueList)
	x.window, x.older, x.late = make(map[int64]*epochLog), &epochLog{epoch: never}, false
	x.kept = []keptRoot{{base, x.treeOf(&b, base)}}
	x.built, x.stale = true, false
	// What was written meanwhile may be in the tree or not; now it is.
	x.drainTo(x.src.LogHead())
}

// builder gathers all entries.
type builder struct {
	all    epochLog
	newest int64
	mark   kv.Version
}

func (b *builder) take(e *kv.Entry) bool {
	if len(b.all.fresh) == 0 {
		b.newest = never
	}
	b.newest = max(b.newest, e.Version.Epoch())
	if e.IsReserved() && string(e.Facet) == markFacet {
		b.mark = e.Version
	}
	return b.all.add(&kv.Logged{Change: kv.Change{Entry: *e}}, merkle.TagOf(e))
}

// treeOf hashes the entries that belong to the set at an epoch.
func (x *Index) treeOf(b *builder, e int64) merkle.Tree {
	order := b.all.order(b.all.fresh)
	updates := make([]merkle.Update, 0, len(order))
	for _, o := range order {
		r := &b.all.fresh[o.at]
		entry := b.all.entry(r)
		if x.hidden(&entry, e) {
			continue
		}
		updates = append(updates, merkle.Update{Key: entry.Key, Facet: entry.Facet, Tag: r.tag})
		x.noteDue(&entry, r.tag, e)
	}
	return merkle.Tree{}.Apply(updates)
}
