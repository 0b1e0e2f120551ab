package hlc

import "sync"

// Clock issues Timestamps. Every Timestamp it issues is greater than each one
// that it issued or observed before.
type Clock struct {
	physical func() int64 // Unix milliseconds; may jump either way
	maxDrift int64        // milliseconds

	mu   sync.Mutex
	last Timestamp // greatest issued or observed
}

// NewClock returns a clock over a physical one, which returns Unix milliseconds
// and may jump in either direction. maxDrift (milliseconds, at least 0) bounds
// how far ahead of the physical clock an observed Timestamp may lie.
func NewClock(physical func() int64, maxDrift int64) *Clock {
	return &Clock{physical: physical, maxDrift: maxDrift}
}

// Now issues the next Timestamp: the physical clock if that is ahead of all
// that was issued or observed, else one more than the last.
func (c *Clock) Now() Timestamp {
	now := At(c.physical())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(now, c.last+1)
	return c.last
}

// Observe takes note of a Timestamp that came from elsewhere, so that whatever
// is issued afterwards is greater. It reports false, and changes nothing, when
// t lies further ahead of the physical clock than the drift limit allows; due
// is then the Unix millisecond at which t will be acceptable.
func (c *Clock) Observe(t Timestamp) (due int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t <= c.last {
		return 0, true
	}
	if earliest := t.Millis() - c.maxDrift; earliest > c.physical() {
		return earliest, false
	}
	c.last = t
	return 0, true
}

// Raise makes the clock issue only Timestamps above t, whatever the drift. It
// is for bounds that this node itself recorded, such as one read back from
// disk; what comes from a peer goes through Observe.
func (c *Clock) Raise(t Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, t)
}

// Last returns the greatest Timestamp issued or observed, 0 if there is none.
func (c *Clock) Last() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Ahead returns by how many milliseconds the clock has run past the drift
// limit, 0 when it is within it. A node whose own stamps are that far in the
// future must not issue more of them.
func (c *Clock) Ahead() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, c.last.Millis()-c.maxDrift-c.physical())
}
