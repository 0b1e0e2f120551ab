package main

import "time"

// began is when every run begins, in Unix milliseconds.
const began = 1_800_000_000_000

// machine is what a node runs on. It outlives restarts: its wall clock is wrong
// by as much as before, and its monotonic clock goes on.
type machine struct {
	loop   *loop
	skew   int64 // milliseconds by which the wall clock is ahead
	frozen int64 // what it shows for as long as it stands still, 0 when it goes
}

func (m *machine) wall() int64 {
	if m.frozen != 0 {
		return m.frozen
	}
	return began + m.loop.now.Milliseconds() + m.skew
}

// read returns both clocks, as the median clock wants them.
func (m *machine) read() (int64, time.Duration) { return m.wall(), m.loop.now }

// freeze makes the wall clock stand still.
func (m *machine) freeze() { m.frozen = m.wall() }

// thaw makes it go on from what it shows.
func (m *machine) thaw() {
	if m.frozen != 0 {
		m.skew = m.frozen - began - m.loop.now.Milliseconds()
		m.frozen = 0
	}
}

// mend sets the wall clock right.
func (m *machine) mend() { m.skew, m.frozen = 0, 0 }
