package replication

import (
	"fmt"
	"testing"
	"time"
)

// reboot starts a node anew, with all that it had.
func (w *world) reboot(id int) {
	n := w.nodes[id]
	n.dead = true
	w.begin(id, n.skew, n.rep.ring, n.rep.keep())
}

// A node that comes back with what it had fetches what it missed and nothing else,
// and is ready when that is there.
func TestSimRestartFetchesOnlyWhatWasMissed(t *testing.T) {
	for _, missed := range []int{0, 1, 40} {
		t.Run(fmt.Sprint(missed), func(t *testing.T) {
			w := calmWorld(t, 100_000)
			for i := range w.nodes {
				w.write(i, 100)
			}
			w.settle()
			w.isolate(2, true)
			w.write(1, missed)
			w.run(w.now + time.Second)
			w.isolate(2, false)
			w.reboot(2)
			c := w.nodes[2].core
			for !c.ready {
				w.run(w.now + time.Millisecond)
			}
			if c.now > gapPatience { // what was missed is not taken to be on its way
				t.Errorf("ready after %v", c.now)
			}
			if got := c.vec.Prefix(w.nodes[1].rep.instance).Seq; got != uint64(100+missed) {
				t.Errorf("ready with %d changes of %d", got, 100+missed)
			}
			w.settle()
			if got := valueOf(c.met.pulledEntries); got != float64(missed) {
				t.Errorf("%v changes were pulled, %d were missed", got, missed)
			}
			if got := valueOf(c.met.fullCopies); got != 0 {
				t.Errorf("%v copies of everything", got)
			}
		})
	}
}

// All nodes restart at once, as after a power failure, each with another part of
// what the others had not got yet.
func TestSimAllRestartAtOnce(t *testing.T) {
	bothRings(t, func(t *testing.T, w *world, _ int) {
		w.write(0, 30)
		w.settle()
		for i := range w.nodes {
			w.isolate(i, true)
		}
		for i := range w.nodes {
			w.write(i, 10+i)
		}
		w.run(w.now + time.Second)
		for i := range w.nodes {
			w.reboot(i)
		}
		w.run(w.now + 10*time.Second)
		for i := range w.nodes {
			if c := w.nodes[i].core; !c.ready {
				t.Errorf("node %d does not serve though nobody is there: %q", i, c.reasons())
			}
		}
		for i := range w.nodes {
			w.isolate(i, false)
		}
		w.settle()
	})
}

// Nodes that lose messages and restart with what they had never show different
// roots for equal vectors. What one wrote just before it ended may be in no log; a
// session brings that.
func TestSimRootsAfterRestarts(t *testing.T) {
	for seed := uint64(1); seed <= uint64(*simSeeds)/5+1; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w := rootedWorld(t, seed, 100_000)
			w.quiet, w.loss, w.dup = false, 0.2, 0.3
			w.delay = time.Duration(1+w.rng.IntN(1500)) * time.Millisecond
			compared := 0
			for range 100 {
				w.write(w.rng.IntN(3), 1+w.rng.IntN(5))
				if w.rng.IntN(8) == 0 {
					w.reboot(w.rng.IntN(3))
				}
				w.advance(time.Duration(w.rng.IntN(600)) * time.Millisecond)
				compared += w.checkRoots()
			}
			w.quiet = true
			why := "not looked at"
			for until := w.now + 2*time.Minute; why != "" && w.now < until; why = w.converged() {
				w.mend() // what it brings has no places until it is adopted
				w.advance(2 * time.Second)
			}
			w.advance(10 * time.Second)
			compared += w.checkRoots()
			if why != "" {
				t.Fatalf("not converged: %s", why)
			}
			w.checkVectors()
			w.checkNothingLost()
			if compared < 40 {
				t.Fatalf("only %d pairs of roots could be compared", compared)
			}
		})
	}
}

// mend runs a session where a node misses what no log has.
func (w *world) mend() {
	for _, n := range w.nodes {
		for _, u := range n.core.Status().Unfillable {
			for _, m := range w.nodes {
				if m.rep.instance == u.Holder {
					w.session(n, m)
					return
				}
			}
		}
	}
}

// What an instance wrote before it ended, while a node was cut off, is in no log and
// no head names it any more: a session brings it, and no copy of everything is made.
func TestSimLongAbsenceNeedsNoFullCopy(t *testing.T) {
	w := rootedWorld(t, 1, 30)
	w.write(0, 30)
	w.settle()
	w.isolate(2, true)
	for range 10 { // node 1 can follow
		w.write(0, 10)
		w.advance(time.Second)
	}
	w.reboot(0)
	w.run(w.now + 2*forgetAfter)
	if h := w.nodes[1].core.head(); h.Rest.Count == 0 {
		t.Fatal("heads still name the instance that ended")
	}
	w.isolate(2, false)
	w.reboot(2)
	for until := w.now + 3*time.Minute; w.converged() != "" && w.now < until; {
		w.mend()
		w.advance(2 * time.Second)
	}
	if why := w.converged(); why != "" {
		t.Fatalf("not converged: %s", why)
	}
	w.checkVectors()
	w.checkNothingLost()
	if n := valueOf(w.nodes[2].core.met.fullCopies); n != 0 {
		t.Fatalf("%v copies of everything", n)
	}
}
