package replication

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// closedAt returns what a node's index knows: epochs are sealed by the clock, and
// drained some time after that.
func (n *simNode) closedAt(millis int64) Closed {
	n.closed.Sealed = millis/hlc.MillisPerEpoch - 1
	return n.closed
}

// drain has a node's index catch up with all that was sealed.
func (n *simNode) drain(millis int64) {
	c := Closed{Sealed: millis/hlc.MillisPerEpoch - 1, Drained: n.rep.LogHead()}
	for i := range int64(keptEpochs) {
		e := EpochHead{Epoch: c.Sealed - i}
		if e.Epoch >= n.rep.from {
			e.Root, e.Count = n.rep.root(e.Epoch), 1
		}
		c.Epochs = append(c.Epochs, e)
	}
	n.closed = c
}

// root returns a hash of the greatest version of each key that was stamped in an
// epoch or before.
func (m *mapReplica) root(epoch int64) []byte {
	greatest := make(map[string]kv.Version)
	for i := range m.all {
		e := &m.all[i]
		if e.Version.Epoch() <= epoch && greatest[string(e.Key)].Less(e.Version) {
			greatest[string(e.Key)] = e.Version
		}
	}
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(greatest)) {
		v := greatest[key]
		h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte(key), uint64(v.HLC)), v.Instance))
	}
	return h.Sum(nil)
}

// rootedWorld is a world whose nodes have an index.
func rootedWorld(t *testing.T, seed uint64, ring int) *world {
	t.Helper()
	w := calmWorld(t, ring)
	w.rng = rand.New(rand.NewPCG(seed, 2))
	w.rooted = true
	for i := range w.nodes {
		w.restart(i, ring)
	}
	w.settle()
	return w
}

// advance lets time pass, in which indexes catch up now and then.
func (w *world) advance(d time.Duration) {
	for until := w.now + d; w.now < until; {
		w.run(w.now + 50*time.Millisecond)
		for _, n := range w.nodes {
			if w.rng.IntN(3) == 0 {
				n.drain(n.core.set.Millis())
			}
		}
	}
}

// checkRoots fails where two roots differ of which the vectors say that they do
// not. It returns how many pairs could be compared.
func (w *world) checkRoots() (compared int) {
	w.t.Helper()
	for _, n := range w.nodes {
		n.core.SetNow(w.now - n.born)
		for _, p := range n.core.Status().Peers {
			if w.leftToSessions(n) || w.leftToSessions(w.nodeOf(p.Instance)) {
				continue
			}
			for _, v := range p.Epochs {
				if v.Root == nil || v.Own == nil || !p.ParamsEqual || !v.VectorsEqual {
					continue
				}
				compared++
				if !bytes.Equal(v.Root, v.Own) {
					w.t.Fatalf("at %v roots of node %d and %s differ at epoch %d, their vectors do not", w.now, n.id, p.NodeID, v.Epoch)
				}
			}
		}
	}
	return compared
}

// nodeOf returns the node that an instance is, nil if it has ended.
func (w *world) nodeOf(instance uint64) *simNode {
	for _, n := range w.nodes {
		if n.rep.instance == instance {
			return n
		}
	}
	return nil
}

// leftToSessions reports whether a node has held something for long above a gap that
// no log closes. Its roots go on all the same, and a session is what they shall bring
// about.
func (w *world) leftToSessions(n *simNode) bool {
	if n == nil {
		return true
	}
	for _, g := range n.core.roots.youngGaps {
		if n.core.now-g.since >= gapHold {
			return true
		}
	}
	for origin, high := range n.rep.above { // what it holds without knowing that
		if n.core.now >= gapHold && n.core.vec.Prefix(origin).Seq < high {
			return true
		}
	}
	return false
}

// Nodes that lose messages, and nothing else, never show different roots for equal
// vectors.
func TestSimRootsDifferOnlyWhereVectorsDo(t *testing.T) {
	for seed := uint64(1); seed <= uint64(*simSeeds)/8+1; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w := rootedWorld(t, seed, 100_000)
			w.quiet, w.loss, w.dup = false, 0.2, 0.3
			w.delay = time.Duration(1+w.rng.IntN(1500)) * time.Millisecond
			compared := 0
			for range 60 {
				w.write(w.rng.IntN(3), 1+w.rng.IntN(5))
				if w.rng.IntN(20) == 0 {
					w.isolate(w.rng.IntN(3), w.rng.IntN(2) == 0)
				}
				w.advance(time.Duration(w.rng.IntN(300)) * time.Millisecond)
				compared += w.checkRoots()
			}
			for i := range w.nodes {
				w.isolate(i, false)
			}
			w.quiet = true
			for range 60 {
				w.advance(500 * time.Millisecond)
				compared += w.checkRoots()
			}
			if why := w.converged(); why != "" {
				t.Fatalf("not converged: %s", why)
			}
			if compared < 300 {
				t.Fatalf("only %d pairs of roots could be compared", compared)
			}
		})
	}
}

// session does what a repair session does: each side gets all that the other has.
func (w *world) session(n, m *simNode) {
	for _, pair := range [][2]*simNode{{n, m}, {m, n}} {
		var all []protocol.DecodedChange
		pair[0].rep.Dump(func(e *kv.Entry) bool {
			all = append(all, protocol.DecodedChange{Change: kv.Change{Origin: e.Version.Instance, Entry: *e}})
			return true
		})
		w.call(pair[1], func() { pair[1].core.OnEntries(new(PullState), all) })
	}
	for _, x := range []*simNode{n, m} {
		x.drain(x.core.set.Millis())
		w.call(x, x.core.Tick)
	}
	if n.closed.Sealed != m.closed.Sealed {
		w.t.Fatalf("sealed %d and %d", n.closed.Sealed, m.closed.Sealed)
	}
	for _, pair := range [][2]*simNode{{n, m}, {m, n}} {
		w.call(pair[0], func() {
			pair[0].core.Adopt(pair[1].rep.instance, n.closed.Sealed, m.rep.root(n.closed.Sealed))
		})
	}
}

// A gap that no log reaches is closed by a session, not by a copy of everything.
func TestSimGapBeyondTheLogsNeedsASession(t *testing.T) {
	w := rootedWorld(t, 1, 30)
	copies := 0.0
	for _, n := range w.nodes {
		copies += valueOf(n.core.met.fullCopies)
	}
	w.isolate(2, true)
	for range 20 { // node 1 can follow
		w.write(0, 10)
		w.advance(time.Second)
	}
	w.isolate(2, false)
	w.advance(10 * time.Second)
	u := w.nodes[2].core.Status().Unfillable
	if len(u) != 1 || u[0].Origin != w.nodes[0].rep.instance {
		t.Fatalf("unfillable %+v", u)
	}
	w.session(w.nodes[2], w.nodes[0])
	w.advance(10 * time.Second)
	if why := w.converged(); why != "" {
		t.Fatalf("not converged: %s", why)
	}
	w.checkVectors()
	if w.checkRoots() == 0 {
		t.Fatal("no roots to compare")
	}
	for _, n := range w.nodes {
		copies -= valueOf(n.core.met.fullCopies)
		if len(n.core.Status().Unfillable) != 0 {
			t.Fatalf("node %d: %+v", n.id, n.core.Status().Unfillable)
		}
	}
	if copies != 0 {
		t.Fatalf("%v copies of everything were made", -copies)
	}
}
