package main

import (
	"time"

	"merklekv/pkg/kv"
)

// write is one change that some client made: where, when, and what came of it. It
// was acknowledged when it was made, for a node waits for nobody.
type write struct {
	node   int
	origin uint64
	seq    uint64
	entry  kv.Entry
	at     time.Duration
	seen   uint8 // a bit for each node that has received it
}

// place is where a change stands: an instance and its sequence.
type place struct{ origin, seq uint64 }

// history is every change that was ever made.
type history struct {
	writes    []write
	byVersion map[kv.Version]int
	byPlace   map[place]int
	greatest  map[string]int          // by name: the write that must be there in the end
	last      []map[string]kv.Version // by node: what it acknowledged last, by name
	lags      []time.Duration         // from a write to its receipt by another node
}

func newHistory(nodes int) *history {
	h := &history{
		byVersion: make(map[kv.Version]int), byPlace: make(map[place]int), greatest: make(map[string]int),
	}
	for range nodes {
		h.last = append(h.last, make(map[string]kv.Version))
	}
	return h
}

// nameOf is the name of an entry as a map's key.
func nameOf(e *kv.Entry) string { return string(e.Key) + "\x00" + string(e.Facet) }

// record takes in a change that a node has just made, and returns what is wrong
// with it, "" if nothing: its version must be above all that this node
// acknowledged for the name before.
func (h *history) record(node int, c *kv.Change, at time.Duration) string {
	name := nameOf(&c.Entry)
	v := c.Entry.Version
	if _, there := h.byVersion[v]; there {
		return "version " + v.String() + " was given twice"
	}
	if before := h.last[node][name]; !before.Less(v) {
		return "a write got " + v.String() + ", one acknowledged before it had " + before.String()
	}
	h.last[node][name] = v
	i := len(h.writes)
	h.writes = append(h.writes, write{
		node: node, origin: c.Origin, seq: c.Seq, entry: c.Entry.Clone(), at: at, seen: 1 << node,
	})
	h.byVersion[v] = i
	h.byPlace[place{c.Origin, c.Seq}] = i
	if g, there := h.greatest[name]; !there || h.writes[g].entry.Version.Less(v) {
		h.greatest[name] = i
	}
	return ""
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

// alive returns how many names have a greatest write that no truncation has killed.
func (h *history) alive() int {
	n, mark := 0, h.mark()
	for _, i := range h.greatest {
		if e := &h.writes[i].entry; e.IsReserved() || mark.Less(e.Version) {
			n++
		}
	}
	return n
}

// mark returns the version of the greatest truncation mark, zero if there is none.
func (h *history) mark() kv.Version {
	if i, there := h.greatest[markName]; there {
		return h.writes[i].entry.Version
	}
	return kv.Version{}
}
