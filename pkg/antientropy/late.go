package antientropy

import (
	"slices"

	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// newcomer is a late change: one for an epoch that is closed already.
type newcomer struct {
	log *epochLog
	at  int // in what is fresh there
	rec rec
}

func (n *newcomer) epoch() int64 { return n.rec.version.Epoch() }

// settleLate puts late changes into every kept set that they belong to.
func (x *Index) settleLate() {
	x.late = false
	if x.stale {
		return
	}
	coming := x.newcomers()
	for _, l := range x.logs() {
		if l.epoch > x.newest().epoch {
			l.settle()
		}
	}
	updates := make([][]merkle.Update, len(x.kept))
	for len(coming) > 0 {
		n := 1
		for n < len(coming) && compareNewcomers(coming[0], coming[n]) == 0 {
			n++
		}
		x.judge(coming[:n], updates)
		coming = coming[n:]
	}
	for i := range x.kept {
		x.kept[i].tree = x.kept[i].tree.Apply(updates[i])
	}
	for _, l := range x.logs() {
		l.settle()
	}
	*x.older = epochLog{epoch: never}
}

// newcomers returns what is fresh in the logs of closed epochs, by name and then
// by version. It stays where it is.
func (x *Index) newcomers() []newcomer {
	var all []newcomer
	for _, l := range append(x.logs(), x.older) {
		if l.epoch > x.newest().epoch {
			continue
		}
		for i, r := range l.fresh {
			all = append(all, newcomer{l, i, r})
		}
	}
	slices.SortStableFunc(all, func(a, b newcomer) int {
		if c := compareNewcomers(a, b); c != 0 {
			return c
		}
		return a.rec.version.Compare(b.rec.version)
	})
	return all
}

func compareNewcomers(a, b newcomer) int {
	return merkle.CompareNames(a.log.key(&a.rec), a.log.facet(&a.rec), b.log.key(&b.rec), b.log.facet(&b.rec))
}

// judge finds the sets that late versions of one name, ascending, belong to.
func (x *Index) judge(coming []newcomer, updates [][]merkle.Update) {
	first := &coming[0]
	key, facet := first.log.key(&first.rec), first.log.facet(&first.rec)
	h := x.historyOf(key, facet)
	for i := range coming {
		r := &coming[i].rec
		if !r.lost {
			h.known = true
			h.versions = append(h.versions, r.replaced)
		}
	}
	for i, k := range x.kept {
		c := lastUpTo(coming, k.epoch)
		if c == nil || !h.known || c.rec.version.Less(h.greatest(k.epoch)) {
			continue
		}
		entry := c.log.entry(&c.rec)
		u := merkle.Update{Key: key, Facet: facet, Tag: c.rec.tag, Remove: x.hidden(&entry, k.epoch)}
		updates[i] = append(updates[i], u)
	}
	if c := lastUpTo(coming, x.newest().epoch); c != nil {
		entry := c.log.entry(&c.rec)
		x.noteDue(&entry, c.rec.tag, x.newest().epoch)
	}
	if c := lastUpTo(coming, x.kept[0].epoch); c != nil {
		x.noteOlder(coming, h.recs, c.rec.version)
	}
}

// lastUpTo returns the greatest of some versions of at most an epoch, nil if all
// are later.
func lastUpTo(coming []newcomer, epoch int64) *newcomer {
	for i := len(coming) - 1; i >= 0; i-- {
		if coming[i].epoch() <= epoch {
			return &coming[i]
		}
	}
	return nil
}

// noteOlder notes for all records of a name within the window, old and new, what
// the oldest set holds of it: when a later change comes, that is not to be found
// anywhere else.
func (x *Index) noteOlder(coming []newcomer, held []*rec, v kv.Version) {
	for _, r := range held {
		r.replaced = greater(r.replaced, v)
	}
	for i := range coming {
		if c := &coming[i]; c.epoch() > x.kept[0].epoch {
			fresh := &c.log.fresh[c.at]
			fresh.replaced = greater(fresh.replaced, v)
		}
	}
}

// history is what is known of the versions of a name, late ones aside.
type history struct {
	recs     []*rec       // in the window
	versions []kv.Version // of them, and those that they replaced
	// known says that the versions are all that matters. Else the name has not
	// changed within the window, and what is late lost to what every set has.
	known bool
}

func (x *Index) historyOf(key, facet []byte) history {
	var h history
	for _, l := range x.window {
		r := l.find(key, facet)
		if r == nil {
			continue
		}
		h.recs = append(h.recs, r)
		h.versions = append(h.versions, r.version, r.replaced)
		h.known = true
	}
	return h
}

// greatest returns the greatest version known of at most an epoch.
func (h *history) greatest(epoch int64) (v kv.Version) {
	for _, w := range h.versions {
		if w.Epoch() <= epoch {
			v = greater(v, w)
		}
	}
	return v
}
