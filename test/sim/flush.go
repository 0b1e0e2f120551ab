package main

import (
	"time"

	"merklekv/pkg/journal"
)

const (
	syncEvery  = time.Second // under interval
	longWrite  = 2 * time.Millisecond
	longStall  = 2 * time.Second  // of a disk that is busy with something else
	stalls     = 0.01             // share of writes and syncs
	systemSync = 10 * time.Second // what the system keeps to itself at most, under never
)

// window is how old an acknowledged write may be at most that a crash of the
// machine takes, under interval: one that came just after a sync had begun waits
// for the next, which may stall, as may the one before.
const window = syncEvery + 2*longStall

// waiter is told when a ticket is durable.
type waiter struct {
	ticket journal.Ticket
	fn     func()
}

// whenDurable calls fn when a ticket is durable, which is never if the node dies
// before or its disk fails.
func (n *node) whenDurable(t journal.Ticket, fn func()) {
	if n.disk == nil || t <= n.disk.Durable() {
		fn()
		return
	}
	n.waiters = append(n.waiters, waiter{t, fn})
}

// answer tells those whose tickets are durable. Tickets are waited for in their
// order.
func (n *node) answer() {
	for len(n.waiters) > 0 && n.waiters[0].ticket <= n.disk.Durable() {
		fn := n.waiters[0].fn
		n.waiters = n.waiters[1:]
		fn()
	}
}

// flush writes what was appended, all in one group, and under always syncs it.
// What comes meanwhile is the next group.
func (n *node) flush() {
	d := n.disk
	if n.flushing || d.broken || d.appended == max(d.written, d.synced) {
		return
	}
	n.flushing = true
	to, most := d.appended, longWrite
	if d.policy == always {
		most = n.w.plan.sync
	}
	n.after(n.w.diskTakes(most), func() {
		n.flushing = false
		switch {
		case d.failing:
			n.diskFails()
			return
		case d.policy == always:
			d.sync(to)
		default:
			d.write(to)
			n.syncLater()
		}
		n.answer()
		n.flush()
	})
}

// syncLater forces to the disk what was written, when its time has come.
func (n *node) syncLater() {
	if n.syncing {
		return
	}
	n.syncing = true
	wait := syncEvery
	if n.disk.policy == never {
		wait = drawTime(n.w.rng.disk, span[time.Duration]{time.Millisecond, systemSync})
	}
	n.after(wait, func() {
		to := n.disk.written
		n.after(n.w.diskTakes(n.w.plan.sync), func() {
			n.syncing = false
			if n.disk.failing {
				n.diskFails()
				return
			}
			n.disk.sync(to)
			if n.disk.written > to {
				n.syncLater()
			}
		})
	})
}

// diskTakes draws how long a write or a sync takes.
func (w *world) diskTakes(usual time.Duration) time.Duration {
	r := w.rng.disk
	if r.Float64() < stalls {
		usual = longStall
	}
	return time.Duration(r.Int64N(int64(usual) + 1))
}

// diskFails is what a failed write or sync does: nothing is acknowledged any more,
// and the process ends.
func (n *node) diskFails() {
	if n.disk.broken {
		return
	}
	n.w.trace.say("the disk of node %d fails", n.id)
	n.disk.broken, n.waiters = true, nil
	n.after(time.Duration(n.w.rng.disk.Int64N(int64(20*time.Millisecond))), func() {
		n.w.fall(n, ofDisk, n.w.lasting(3*time.Second))
	})
}

// death is how a process ends.
type death uint8

const (
	stopped  death = iota // in good order: everything is on the disk
	killed                // at once; what was handed to the system is kept
	powerOff              // with its machine; what was not forced to the disk may be lost
	ofDisk                // because a write or a sync failed
)

func (d death) String() string {
	return [...]string{"is stopped", "is killed", "loses power", "ends for its disk"}[d]
}

// fall ends a node, which starts again after a while.
func (w *world) fall(n *node, how death, d time.Duration) {
	w.trace.say("node %d %v for %v", n.id, how, d)
	n.kill()
	if n.disk == nil {
		w.forgotten(n)
	} else {
		w.forget(n, how)
	}
	w.until(d, func() {
		n.boot()
		n.startWriters()
	})
}

// forget takes from a disk what the death of its node takes: of what was appended
// last, a part that is drawn.
func (w *world) forget(n *node, how death) {
	d, low := n.disk, n.disk.synced
	switch how {
	case stopped:
		low, d.bound = d.appended, n.clock.Last()
	case killed:
		low = d.written
	}
	keeps := low
	switch w.rng.disk.IntN(4) {
	case 0:
	case 1:
		keeps = d.appended
	default:
		keeps += journal.Ticket(w.rng.disk.Int64N(int64(d.appended-low) + 1))
	}
	lost := d.crash(keeps)
	w.trace.note("forgets", uint64(n.id), uint64(len(lost)))
	for i := range lost {
		w.judgeLoss(n, &lost[i], how)
	}
	w.recount(n)
}
