package main

import "time"

// loop is virtual time: events in the order of their instants, and of their
// making where those are equal. It is for one goroutine.
type loop struct {
	now    time.Duration // since the run began
	serial uint64
	queue  []event // a binary heap
	ran    uint64  // events that have happened
}

type event struct {
	at     time.Duration
	serial uint64
	run    func()
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.serial < o.serial
}

// after has something happen in a while, at least 0.
func (l *loop) after(d time.Duration, run func()) {
	l.serial++
	q := append(l.queue, event{l.now + d, l.serial, run})
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q[i].before(&q[parent]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
	l.queue = q
}

// pop takes the next event out of the queue, which has one.
func (l *loop) pop() event {
	q := l.queue
	top, last := q[0], len(q)-1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	for i := 0; ; {
		next := 2*i + 1
		if next >= last {
			break
		}
		if next+1 < last && q[next+1].before(&q[next]) {
			next++
		}
		if !q[next].before(&q[i]) {
			break
		}
		q[i], q[next] = q[next], q[i]
		i = next
	}
	l.queue = q
	return top
}

// runUntil lets time pass to an instant, or until stop says so.
func (l *loop) runUntil(end time.Duration, stop func() bool) {
	for len(l.queue) > 0 && l.queue[0].at <= end {
		if stop() {
			return
		}
		e := l.pop()
		l.now = e.at
		l.ran++
		e.run()
	}
	l.now = max(l.now, end)
}
