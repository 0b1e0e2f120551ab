package replication

import (
	"fmt"
	"testing"
	"time"
)

// calmWorld is a world in which nothing goes wrong by chance, with three nodes
// that are ready.
func calmWorld(t *testing.T, ring int) *world {
	t.Helper()
	w := newWorld(t, 1)
	w.quiet, w.delay = true, 20*time.Millisecond
	for i := range w.nodes {
		w.restart(i, ring)
	}
	w.settle()
	return w
}

// restart starts a node anew, without what it had.
func (w *world) restart(id, ring int) {
	w.nodes[id].dead = true
	w.boot(id, 0, ring)
}

// settle lets time pass until all is as it should be.
func (w *world) settle() {
	w.t.Helper()
	deadline := w.now + 2*time.Minute
	why := "not looked at"
	for w.now < deadline && why != "" {
		w.run(w.now + time.Second)
		why = w.converged()
	}
	if why != "" {
		w.t.Fatalf("not converged: %s", why)
	}
	w.checkVectors()
	w.checkNothingLost()
}

// write has a node make changes.
func (w *world) write(id, n int) {
	node := w.nodes[id]
	for i := range n {
		node.rep.set(fmt.Sprintf("k%d.%d.%d", id, w.serial, i), []byte("v"))
		last := node.rep.log[len(node.rep.log)-1]
		w.changes[[2]uint64{last.Origin, last.Seq}] = last.Entry
	}
}

// isolate cuts a node off from everybody, or joins it again.
func (w *world) isolate(id int, off bool) {
	w.away[id] = off
	for i := range w.nodes {
		if i != id {
			w.cut[[2]int{min(i, id), max(i, id)}] = off
		}
	}
	n := w.nodes[id]
	w.call(n, func() { n.core.OnLinks(oneInt(!off)) })
}

func bothRings(t *testing.T, fn func(t *testing.T, w *world, ring int)) {
	for name, ring := range map[string]int{"long logs": 100_000, "short logs": 20} {
		t.Run(name, func(t *testing.T) { fn(t, calmWorld(t, ring), ring) })
	}
}

// What an instance wrote while a node was cut off reaches that node, though the
// instance ended and no head names it any more.
func TestSimOriginRestartedDuringALongCut(t *testing.T) {
	bothRings(t, func(t *testing.T, w *world, ring int) {
		w.write(0, 30)
		w.settle()
		w.isolate(2, true)
		w.write(0, 50)
		w.run(w.now + 5*time.Second)
		w.restart(0, ring)
		w.run(w.now + 2*forgetAfter)
		if h := w.nodes[1].core.head(); h.Rest.Count == 0 {
			t.Fatal("heads still name the instance that ended")
		}
		w.isolate(2, false)
		w.settle()
	})
}

// A node that starts where it reaches nobody serves, and has everything once it
// reaches somebody.
func TestSimStartWithNobodyThere(t *testing.T) {
	bothRings(t, func(t *testing.T, w *world, ring int) {
		w.write(0, 50)
		w.write(1, 50)
		w.settle()
		w.restart(0, ring)
		w.run(w.now + 2*forgetAfter)
		w.isolate(2, true)
		w.restart(2, ring)
		w.run(w.now + 10*time.Second)
		if c := w.nodes[2].core; !c.ready || c.pulled {
			t.Fatalf("ready %v, pulled %v", c.ready, c.pulled)
		}
		w.write(2, 5)
		w.isolate(2, false)
		w.settle()
	})
}

// A peer that answers and dies before it has sent what it has holds nobody up.
func TestSimPeerDiesBetweenHelloAndDone(t *testing.T) {
	bothRings(t, func(t *testing.T, w *world, ring int) {
		w.write(0, 50)
		w.settle()
		w.nodes[1].dead, w.nodes[2].dead = true, true
		w.restart(1, ring)
		starting := w.nodes[1].core
		for starting.whole == "" && !starting.ready {
			w.run(w.now + time.Millisecond)
		}
		if starting.ready {
			t.Fatal("ready before its pull has ended")
		}
		w.nodes[0].dead = true
		w.run(w.now + startLimit)
		if !starting.ready || starting.pulled {
			t.Fatalf("ready %v, pulled %v", starting.ready, starting.pulled)
		}
		// The one that died comes back with what it had.
		w.nodes[0].dead = false
		w.tick(w.nodes[0])
		w.boot(2, 0, ring)
		w.settle()
	})
}
