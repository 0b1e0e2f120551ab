package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

// checkEvery is how often it is looked whether all is as it must be at any time.
const checkEvery = 700 * time.Millisecond

func (w *world) check() {
	for _, n := range w.nodes {
		if n.up {
			n.checkClaims()
		}
	}
	w.count.checks++
	w.after(checkEvery, w.check)
}

// claims is up to where a vector was found to be true. What a replica holds only
// becomes greater.
type claims map[uint64]uint64 // by origin

func newClaims() claims { return make(claims) }

// checkClaims sees that the node has every change that its vector says it has.
func (n *node) checkClaims() {
	var held map[string]kv.Version
	for _, it := range n.core.Held() {
		for seq := n.claims[it.Instance] + 1; seq <= it.Seq; seq++ {
			i, there := n.w.history.byPlace[place{it.Instance, seq}]
			if !there {
				n.w.fail("node %d claims change %d of %016x, which was never made", n.id, seq, it.Instance)
				return
			}
			if held == nil {
				held = n.versions()
			}
			e := &n.w.history.writes[i].entry
			if held[nameOf(e)].Less(e.Version) && (e.IsReserved() || held[markName].Less(e.Version)) {
				n.w.fail("node %d claims change %d of %016x, key %q, and does not have it", n.id, seq, it.Instance, e.Key)
				return
			}
		}
		n.claims[it.Instance] = it.Seq
	}
}

// markName is the name of the truncation mark, which nobody needs what it kills of.
const markName = "\x00t"

// versions returns what the node holds, by name.
func (n *node) versions() map[string]kv.Version {
	held := make(map[string]kv.Version)
	n.store.Dump(func(e *kv.Entry) bool {
		held[nameOf(e)] = e.Version
		return true
	})
	return held
}

// spare reports whether all that a node has written and received is with another
// one too, so that it may lose everything.
func (w *world) spare(n *node) bool {
	own := n.versions()
	for _, m := range w.nodes {
		if m != n && m.up && m.covers(n.core.Held()) && m.dominates(own) {
			return true
		}
	}
	return false
}

// covers reports whether the node has received all that a vector names.
func (n *node) covers(vector []protocol.VectorItem) bool {
	held := n.core.Held()
	for _, it := range vector {
		i := slices.IndexFunc(held, func(h protocol.VectorItem) bool { return h.Instance == it.Instance })
		if i < 0 || held[i].Seq < it.Seq {
			return false
		}
	}
	return true
}

// dominates reports whether the node holds at least the given versions.
func (n *node) dominates(versions map[string]kv.Version) bool {
	held := n.versions()
	for name, v := range versions {
		if held[name].Less(v) {
			return false
		}
	}
	return true
}

// forgotten takes in that a node has lost all that it had.
func (w *world) forgotten(n *node) {
	w.history.issued[n.id] = 0
	for i := range w.history.writes {
		w.history.writes[i].seen &^= 1 << n.id
	}
}

// judgeLoss sees that a disk was allowed to forget a record: what it acknowledged
// under always is never lost, under the others not with the process alone, and under
// interval not what is older than the window.
func (w *world) judgeLoss(n *node, r *record, how death) {
	w.count.forgotten++
	v, tells := r.version()
	i, there := w.history.byVersion[v]
	if !tells || !there {
		return
	}
	wr := &w.history.writes[i]
	if held, there := n.disk.kept.entries[nameOf(&wr.entry)]; there && !held.Version.Less(v) {
		return
	}
	own := wr.acked && wr.origin == n.instance
	switch {
	case own && (n.disk.policy == always || how < powerOff):
		w.fail("node %d %v and loses a write of key %q that it acknowledged, fsync %v", n.id, how, wr.entry.Key, n.disk.policy)
	case n.disk.policy == interval && how >= powerOff && w.now-max(r.at, n.pause) > window:
		w.fail("node %d %v and loses %v of key %q after %v", n.id, how, v, wr.entry.Key, w.now-r.at)
	}
}

// recount takes in what a disk holds after its node has died: of some of what is
// lost no record tells, because it was superseded when it came.
func (w *world) recount(n *node) {
	for i := range w.history.writes {
		wr := &w.history.writes[i]
		if wr.seen&(1<<n.id) == 0 {
			continue
		}
		if held, there := n.disk.kept.entries[nameOf(&wr.entry)]; there && !held.Version.Less(wr.entry.Version) {
			continue
		}
		wr.seen &^= 1 << n.id
		if wr.acked && wr.seen == 0 {
			w.count.lost++
		}
	}
}

// phantom is two roots that differ though the vectors say that they must not.
type phantom struct {
	epoch       int64
	left, right uint64
}

// told compares a node's new head with the last ones of the others: where both
// tell the root of an epoch, and what they had received of it is the same, the
// roots are equal.
func (w *world) told(n *node, h *replication.Head) {
	w.heads[n.id] = h
	for i, other := range w.heads {
		if other == nil || i == n.id || other.Rest != h.Rest {
			continue
		}
		for _, e := range h.Epochs {
			j := slices.IndexFunc(other.Epochs, func(o replication.EpochHead) bool { return o.Epoch == e.Epoch })
			if j < 0 || e.Root == nil || other.Epochs[j].Root == nil || bytes.Equal(e.Root, other.Epochs[j].Root) ||
				!sameMarks(h, &e, other, &other.Epochs[j]) {
				continue
			}
			p := phantom{e.Epoch, min(h.Instance, other.Instance), max(h.Instance, other.Instance)}
			if !w.phantom[p] {
				w.phantom[p] = true
				w.count.phantoms++
				w.trace.say("phantom: roots of nodes %d and %d differ at epoch %d", n.id, i, e.Epoch)
				if w.prof.exact {
					w.fail("roots of nodes %d and %d differ at epoch %d, their vectors do not", n.id, i, e.Epoch)
				}
			}
		}
	}
}

// sameMarks reports whether two nodes had received the same of an epoch.
func sameMarks(a *replication.Head, ae *replication.EpochHead, b *replication.Head, be *replication.EpochHead) bool {
	marks := make(map[uint64]uint64)
	for i, it := range a.Vector {
		if ae.Marks[i].Seq > 0 {
			marks[it.Instance] = ae.Marks[i].Seq
		}
	}
	for i, it := range b.Vector {
		if seq := be.Marks[i].Seq; seq > 0 && marks[it.Instance] != seq {
			return false
		} else if seq > 0 {
			delete(marks, it.Instance)
		}
	}
	return len(marks) == 0
}

// unequal says what is not equal yet, "" when all is.
func (w *world) unequal() string {
	first := w.nodes[0]
	var dump []kv.Entry
	for _, n := range w.nodes {
		if !n.up {
			return fmt.Sprintf("node %d is down", n.id)
		}
		switch s := n.core.Status(); {
		case !n.ready:
			return fmt.Sprintf("node %d is not ready: %q", n.id, s.Reasons)
		case len(s.Deferred) > 0:
			return fmt.Sprintf("node %d has put off something of %016x", n.id, s.Deferred[0].Instance)
		case s.Gaps > 0:
			return fmt.Sprintf("node %d has gaps in %d origins; %s", n.id, s.Gaps, w.epochsTold())
		case !slices.Equal(n.core.Held(), first.core.Held()):
			return fmt.Sprintf("vectors of nodes 0 and %d: %v and %v", n.id, first.core.Held(), n.core.Held())
		}
	}
	for _, n := range w.nodes {
		all := withoutKilled(sortedDump(n.store))
		if n == first {
			dump = all
		} else if why := difference(dump, all); why != "" {
			return fmt.Sprintf("dumps of nodes 0 and %d: %s", n.id, why)
		}
	}
	return w.rootsUnequal()
}

// rootsUnequal says why it is not so that all nodes tell the same root of one
// epoch.
func (w *world) rootsUnequal() string {
	roots := make(map[int64][]byte)
	most := make(map[int64]int)
	for _, h := range w.heads {
		if h == nil || len(h.Epochs) == 0 || h.Epochs[0].Root == nil {
			return "not every node tells the root of its newest epoch"
		}
		for _, e := range h.Epochs {
			if e.Root == nil {
				continue
			}
			if held := roots[e.Epoch]; held != nil && !bytes.Equal(held, e.Root) {
				return fmt.Sprintf("roots differ at epoch %d", e.Epoch)
			}
			roots[e.Epoch] = e.Root
			most[e.Epoch]++
		}
	}
	newest := hlcEpoch(w.greatest())
	for epoch, n := range most {
		if n == len(w.nodes) && epoch >= newest {
			return ""
		}
	}
	return fmt.Sprintf("no epoch from %d on whose root all nodes tell: %s", newest, w.epochsTold())
}

// epochsTold lists the newest epoch of each node and the newest whose root it
// tells.
func (w *world) epochsTold() string {
	var b strings.Builder
	for i, h := range w.heads {
		var newest, told int64
		if h == nil {
			continue
		}
		for _, e := range h.Epochs {
			newest = max(newest, e.Epoch)
			if e.Root != nil {
				told = max(told, e.Epoch)
			}
		}
		fmt.Fprintf(&b, "node %d at %d, told %d; ", i, newest, told)
	}
	return b.String()
}

// greatest returns the greatest version that any node has issued or applied.
func (w *world) greatest() kv.Version {
	var v kv.Version
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		if g := n.store.Greatest(); v.Less(g) {
			v = g
		}
	}
	return v
}

func hlcEpoch(v kv.Version) int64 { return v.Epoch() }

// difference says in what two sorted dumps differ, "" if in nothing.
func difference(a, b []kv.Entry) string {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("the second has %q", b[i].Key)
		case i >= len(b):
			return fmt.Sprintf("the first has %q", a[i].Key)
		case !sameEntry(&a[i], &b[i]):
			return fmt.Sprintf("%q at %v against %q at %v", a[i].Key, a[i].Version, b[i].Key, b[i].Version)
		}
	}
	return ""
}

// withoutKilled leaves out what the truncation mark among the entries has killed:
// it stays until it is collected, where it ever came.
func withoutKilled(all []kv.Entry) []kv.Entry {
	var mark kv.Version
	for i := range all {
		if nameOf(&all[i]) == markName {
			mark = all[i].Version
		}
	}
	return slices.DeleteFunc(all, func(e kv.Entry) bool { return !e.IsReserved() && !mark.Less(e.Version) })
}

func sameEntry(a, b *kv.Entry) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Facet, b.Facet) && a.Version == b.Version &&
		a.Flags == b.Flags && a.ExpiresAt == b.ExpiresAt && bytes.Equal(a.Value, b.Value)
}

// judge holds what every node has in the end against the history: nothing
// acknowledged is lost, nothing is there that nobody wrote, and what was deleted
// is gone. That the nodes are equal has been seen.
func (w *world) judge() {
	h := w.history
	n := w.nodes[0]
	required := h.required()
	held := withoutKilled(sortedDump(n.store))
	for i := range held {
		e := &held[i]
		at, there := h.byVersion[e.Version]
		if !there || !sameEntry(e, &h.writes[at].entry) {
			w.fail("key %q at %v holds what nobody wrote", e.Key, e.Version)
			return
		}
		if best, there := required[nameOf(e)]; !there || h.writes[best].entry.Version != e.Version {
			w.fail("key %q holds %v, acknowledged was %v of node %d", e.Key, e.Version,
				h.writes[best].entry.Version, h.writes[best].node)
			return
		}
	}
	if alive := h.alive(required); len(held) != alive {
		w.fail("%d names are held, %d were written", len(held), alive)
		return
	}
	for _, n := range w.nodes {
		n.judgeReads(required)
		n.checkClaims()
	}
}

// judgeReads reads every key as a client does.
func (n *node) judgeReads(required map[string]int) {
	h := n.w.history
	mark := h.mark(required)
	for _, at := range required {
		e := &h.writes[at].entry
		if e.IsReserved() || len(e.Facet) > 0 {
			continue
		}
		value, there := n.store.Get(nil, e.Key)
		alive := !e.IsTombstone() && mark.Less(e.Version)
		if there != alive || alive && !bytes.Equal(value, e.Value) {
			n.w.fail("node %d reads %q (%v) of key %q, which ends with %v (%v)", n.id, value, there, e.Key, e.Version, alive)
			return
		}
	}
}
