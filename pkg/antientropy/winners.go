package antientropy

import (
	"slices"

	"merklekv/pkg/merkle"
)

// winners are the greatest versions of some consecutive epochs, by name.
type winners struct {
	logs []*epochLog
	from []place // nil: all records of the only log
}

// place is a record in one of several logs.
type place struct {
	log uint32
	rec uint32
}

// winners returns the greatest version of every name that has one after one
// epoch and up to another.
func (x *Index) winners(after, upTo int64) winners {
	var w winners
	for _, l := range x.logs() {
		if l.epoch > after && l.epoch <= upTo {
			l.settle()
			w.logs = append(w.logs, l)
		}
	}
	if len(w.logs) > 1 {
		w.merge()
	}
	return w
}

// merge puts the records of several logs into one order, of each name the one of
// the latest epoch.
func (w *winners) merge() {
	for i, l := range w.logs {
		for j := range l.recs {
			w.from = append(w.from, place{uint32(i), uint32(j)})
		}
	}
	slices.SortFunc(w.from, func(a, b place) int {
		if c := w.compare(a, b); c != 0 {
			return c
		}
		return int(b.log) - int(a.log) // the latest first
	})
	w.from = slices.CompactFunc(w.from, func(a, b place) bool { return w.compare(a, b) == 0 })
}

func (w *winners) at(p place) (*epochLog, *rec) {
	l := w.logs[p.log]
	return l, &l.recs[p.rec]
}

func (w *winners) compare(a, b place) int {
	la, ra := w.at(a)
	lb, rb := w.at(b)
	return merkle.CompareNames(la.key(ra), la.facet(ra), lb.key(rb), lb.facet(rb))
}

func (w *winners) len() int {
	if w.from == nil && len(w.logs) == 1 {
		return len(w.logs[0].recs)
	}
	return len(w.from)
}

// each calls fn for the winners in the order of their names.
func (w *winners) each(fn func(*epochLog, *rec)) {
	if w.from == nil && len(w.logs) == 1 {
		l := w.logs[0]
		for i := range l.recs {
			fn(l, &l.recs[i])
		}
		return
	}
	for _, p := range w.from {
		l, r := w.at(p)
		fn(l, r)
	}
}
