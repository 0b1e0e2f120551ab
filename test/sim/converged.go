package main

import (
	"math"
	"slices"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

// verdict is what CONVERGED says at a node.
func (n *node) verdict() protocol.Verdict {
	n.core.SetNow(n.w.now - n.born)
	status := n.core.Status()
	s := antientropy.Standing{
		Millis: n.millis(), Self: n.name, Members: antientropy.Members(n.store.Entries(nil, nil)),
		Silent: status.Silent, Greatest: n.store.Greatest(), Vector: n.core.Held(),
	}
	n.index.Drain()
	n.show()
	own := make(map[int64]merkle.Hash)
	for _, r := range n.index.Roots() {
		s.Own = append(s.Own, antientropy.RootAt{Epoch: r.Epoch, Root: r.Root})
		own[r.Epoch] = r.Root
	}
	for i := range status.Peers {
		n.addHead(&s, &status.Peers[i], own)
	}
	return antientropy.Converged(&s)
}

// addHead adds what a peer's newest head tells, of each node the newest one. How
// long roots have differed is left out: it does not make anything equal.
func (n *node) addHead(s *antientropy.Standing, p *replication.PeerStatus, own map[int64]merkle.Hash) {
	if p.Head == nil || p.NodeID == n.name {
		return
	}
	if s.Greatest.Less(p.Head.Greatest) {
		s.Greatest = p.Head.Greatest
	}
	h := antientropy.PeerHead{NodeID: p.NodeID, Age: p.HeadAge, Params: p.ParamsEqual, Greatest: p.Head.Greatest, Wrote: p.Head.Last.Seq > 0, Vector: p.Head.Vector}
	for _, e := range p.Epochs {
		if len(e.Root) != len(merkle.Hash{}) {
			continue
		}
		now, kept := own[e.Epoch]
		h.Roots = append(h.Roots, antientropy.RootSeen{
			RootAt:     antientropy.RootAt{Epoch: e.Epoch, Root: merkle.Hash(e.Root)},
			SameVector: e.VectorsEqual && kept && string(e.Own) == string(now[:]),
		})
	}
	s.AddHead(h)
}

// headsOld is how old what a node says of the others may be.
const headsOld = 4 * time.Second

// checkVerdicts sees that no node calls replicas equal that are not: the one that
// says so of the newest epoch stands for all. Of what was written, and of who was
// started, since the heads were made that it looks at, it cannot know.
func (w *world) checkVerdicts() {
	var says *node
	newest := int64(math.MinInt64)
	for _, n := range w.nodes {
		if !n.up || !n.ready {
			continue
		}
		if v := n.verdict(); v.Equality == protocol.Equal && v.Epoch > newest {
			says, newest = n, v.Epoch
		}
	}
	if says == nil {
		return
	}
	w.count.verdicts++
	old := w.writtenUpTo(newest)
	for _, n := range w.nodes {
		if n.up && w.now-n.born > headsOld {
			w.checkHolds(says, n, newest, old)
		}
	}
}

// writtenUpTo returns what was there of an epoch, and of those before, when heads
// were made that nodes still rest on: of each name the greatest write.
func (w *world) writtenUpTo(epoch int64) []*kv.Entry {
	var old []*kv.Entry
	for _, at := range w.history.required() {
		if wr := &w.history.writes[at]; wr.at < w.now-headsOld && wr.entry.Version.Epoch() <= epoch {
			old = append(old, &wr.entry)
		}
	}
	slices.SortFunc(old, func(a, b *kv.Entry) int { return a.Version.Compare(b.Version) })
	return old
}

// checkHolds sees that a node holds some entries or what superseded them.
func (w *world) checkHolds(says, n *node, epoch int64, entries []*kv.Entry) {
	held := n.versions()
	for _, e := range entries {
		if held[nameOf(e)].Less(e.Version) && (e.IsReserved() || held[markName].Less(e.Version)) {
			w.fail("node %d says EQUAL at epoch %d, and node %d holds %v of key %q, not %v", says.id, epoch, n.id,
				held[nameOf(e)], e.Key, e.Version)
			return
		}
	}
}

// equalEverywhere sees that in the end each node finds out that all are equal.
func (w *world) equalEverywhere() {
	for _, n := range w.nodes {
		if v := n.verdict(); v.Equality != protocol.Equal {
			w.fail("all are equal, and node %d says %v, %s %v", n.id, v.Equality, v.Reason, v.Peers)
		}
	}
}
