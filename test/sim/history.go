package main

import (
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// write is one change that some client made: where, when, and what came of it.
type write struct {
	node   int
	origin uint64
	seq    uint64
	entry  kv.Entry
	at     time.Duration
	acked  bool
	seen   uint8 // a bit for each node that holds it or what is greater: made or received and not forgotten
}

// place is where a change stands: an instance and its sequence.
type place struct{ origin, seq uint64 }

// history is every change that was ever made.
type history struct {
	writes    []write
	byVersion map[kv.Version]int
	byPlace   map[place]int
	issued    []hlc.Timestamp // by node: the greatest stamp it gave
	lags      []time.Duration // from a write to its receipt by another node
}

func newHistory(nodes int) *history {
	return &history{byVersion: make(map[kv.Version]int), byPlace: make(map[place]int), issued: make([]hlc.Timestamp, nodes)}
}

// nameOf is the name of an entry as a map's key.
func nameOf(e *kv.Entry) string { return string(e.Key) + "\x00" + string(e.Facet) }

// record takes in a change that a node has just made, and returns what is wrong
// with it, "" if nothing: its stamp must be above all that this node gave before,
// in earlier lives too if it has a disk.
func (h *history) record(node int, c *kv.Change, at time.Duration) string {
	v := c.Entry.Version
	if _, there := h.byVersion[v]; there {
		return "version " + v.String() + " was given twice"
	}
	if before := h.issued[node]; before >= v.HLC {
		return "a write got the stamp " + v.HLC.String() + ", one before it " + before.String()
	}
	h.issued[node] = v.HLC
	i := len(h.writes)
	h.writes = append(h.writes, write{
		node: node, origin: c.Origin, seq: c.Seq, entry: c.Entry.Clone(), at: at, seen: 1 << node,
	})
	h.byVersion[v] = i
	h.byPlace[place{c.Origin, c.Seq}] = i
	return ""
}

// acknowledge takes in that clients were told that writes [first, end) are done.
func (h *history) acknowledge(first, end int) {
	for i := first; i < end; i++ {
		h.writes[i].acked = true
	}
}

// required is what must be there in the end: of each name the greatest write that
// somebody holds.
func (h *history) required() map[string]int {
	greatest := make(map[string]int)
	for i := range h.writes {
		w := &h.writes[i]
		if w.seen == 0 {
			continue
		}
		name := nameOf(&w.entry)
		if g, there := greatest[name]; !there || h.writes[g].entry.Version.Less(w.entry.Version) {
			greatest[name] = i
		}
	}
	return greatest
}

// receive takes in that a node was offered an entry and took note of it. It
// returns false for an entry that nobody wrote.
func (h *history) receive(node int, v kv.Version, at time.Duration) bool {
	i, there := h.byVersion[v]
	if !there {
		return false
	}
	w := &h.writes[i]
	if w.seen&(1<<node) == 0 {
		w.seen |= 1 << node
		h.lags = append(h.lags, at-w.at)
	}
	return true
}

// alive returns how many of the names that are required no truncation has killed.
func (h *history) alive(required map[string]int) int {
	n, mark := 0, h.mark(required)
	for _, i := range required {
		if e := &h.writes[i].entry; e.IsReserved() || mark.Less(e.Version) {
			n++
		}
	}
	return n
}

// mark returns the version of the greatest truncation mark, zero if there is none.
func (h *history) mark(required map[string]int) kv.Version {
	if i, there := required[markName]; there {
		return h.writes[i].entry.Version
	}
	return kv.Version{}
}
