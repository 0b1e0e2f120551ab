package main

import (
	"time"
)

// fault is one kind of thing that goes wrong. It begins at once, and what ends
// it, if it does not end by itself, is in the loop when it returns; false says
// that it cannot happen now.
type fault func(w *world) bool

// misfortune lets one fault happen after another.
func (w *world) misfortune() {
	if w.calm || len(w.prof.faults) == 0 {
		return
	}
	total := 0
	for _, f := range w.prof.faults {
		total += f.weight
	}
	x := w.rng.fault.IntN(total)
	for _, f := range w.prof.faults {
		if x -= f.weight; x < 0 {
			if f.fault(w) {
				w.count.faults++
			}
			break
		}
	}
	w.after(drawTime(w.rng.fault, w.prof.every), w.misfortune)
}

// lasting draws how long a fault lasts.
func (w *world) lasting(most time.Duration) time.Duration {
	return drawTime(w.rng.fault, span[time.Duration]{50 * time.Millisecond, most})
}

// until has a fault end after a while, or when everything is healed.
func (w *world) until(d time.Duration, end func()) {
	done := false
	once := func() {
		if !done {
			done = true
			end()
		}
	}
	w.healing = append(w.healing, once)
	w.after(d, once)
}

func (w *world) anyNode() *node { return w.nodes[w.rng.fault.IntN(len(w.nodes))] }

// cutLink parts two nodes, or one and the broker.
func cutLink(w *world) bool {
	a := w.rng.fault.IntN(len(w.nodes))
	b := w.rng.fault.IntN(len(w.nodes))
	if a == b {
		b = broker
	}
	d := w.lasting(8 * time.Second)
	w.trace.say("cut between %d and %d for %v", a, b, d)
	w.net.sever(a, b, +1)
	w.until(d, func() {
		w.trace.say("cut between %d and %d ends", a, b)
		w.net.sever(a, b, -1)
	})
	return true
}

// isolate parts a node from everything.
func isolate(w *world) bool {
	n, d := w.anyNode(), w.lasting(8*time.Second)
	w.trace.say("node %d is alone for %v", n.id, d)
	part := func(by int) {
		w.net.sever(n.id, broker, by)
		for _, m := range w.nodes {
			if m != n {
				w.net.sever(n.id, m.id, by)
			}
		}
	}
	part(+1)
	w.until(d, func() {
		w.trace.say("node %d is alone no longer", n.id)
		part(-1)
	})
	return true
}

// stopBroker takes the broker down; it may come back empty.
func stopBroker(w *world) bool {
	d, forget := w.lasting(6*time.Second), w.rng.fault.IntN(2) == 0
	w.trace.say("broker down for %v, forgets %v", d, forget)
	w.net.stop(+1, forget)
	w.until(d, func() {
		w.trace.say("broker is back")
		w.net.stop(-1, false)
	})
	return true
}

// pauseNode makes a process stand still.
func pauseNode(w *world) bool {
	n, d := w.anyNode(), w.lasting(7*time.Second)
	if !n.up {
		return false
	}
	w.trace.say("node %d stands still for %v", n.id, d)
	n.pause = max(n.pause, w.now+d)
	w.until(d, func() {})
	return true
}

// crash ends a process, which starts again. Without a disk all that it had is
// gone, so somebody else has to have it.
func crash(w *world) bool {
	n, d := w.anyNode(), w.lasting(3*time.Second)
	if !n.up || n.disk == nil && !w.spare(n) {
		return false
	}
	w.fall(n, death(w.rng.disk.IntN(int(powerOff)+1)), d)
	if w.prof.disks && w.rng.disk.IntN(4) == 0 { // a machine whose clock has lost its battery
		n.box.skew -= w.rng.disk.Int64N(120_001)
	}
	return true
}

// blackout takes the power from all nodes that have a disk, at once. It may set all
// clocks back: then no median helps.
func blackout(w *world) bool {
	d, back, struck := w.lasting(2*time.Second), int64(0), false
	if w.prof.disks && w.rng.disk.IntN(3) == 0 {
		back = w.rng.disk.Int64N(30_001)
	}
	for _, n := range w.nodes {
		if n.up && n.disk != nil {
			w.fall(n, powerOff, d+time.Duration(w.rng.disk.Int64N(int64(time.Second))))
			n.box.skew -= back
			struck = true
		}
	}
	return struck
}

// failDisk has the next write or sync of a disk fail, if there is one soon.
func failDisk(w *world) bool {
	n := w.anyNode()
	if !n.up || n.disk == nil || n.disk.policy == instant {
		return false
	}
	n.disk.failing = true
	w.until(w.lasting(3*time.Second), func() { n.disk.failing = false })
	return true
}

// jumpClock sets a wall clock wrong.
func jumpClock(w *world) bool {
	n := w.anyNode()
	by := w.rng.fault.Int64N(1_200_001) - 600_000
	if w.rng.fault.IntN(2) == 0 {
		by /= 20
	}
	w.trace.say("the clock of node %d jumps by %d ms", n.id, by)
	n.box.skew += by
	return true
}

// slipClock sets a wall clock wrong by a little.
func slipClock(w *world) bool {
	n := w.anyNode()
	by := w.rng.fault.Int64N(8001) - 4000
	w.trace.say("the clock of node %d slips by %d ms", n.id, by)
	n.box.skew += by
	return true
}

// freezeClock makes a wall clock stand still.
func freezeClock(w *world) bool {
	n, d := w.anyNode(), w.lasting(10*time.Second)
	if n.box.frozen != 0 {
		return false
	}
	w.trace.say("the clock of node %d stands still for %v", n.id, d)
	n.box.freeze()
	w.until(d, n.box.thaw)
	return true
}

// burst makes a node write much at once.
func burst(w *world) bool {
	n := w.anyNode()
	if !n.up || !n.ready || n.pause > w.now {
		return false
	}
	count := 20 + w.rng.fault.IntN(200)
	w.trace.say("node %d writes %d at once", n.id, count)
	for range count {
		n.operate()
	}
	n.publishSoon()
	return true
}
