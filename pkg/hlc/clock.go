package hlc

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Clock issues Timestamps. Every Timestamp it issues is greater than each one
// that it issued or observed before.
type Clock struct {
	physical func() int64 // Unix milliseconds; may jump either way
	maxDrift atomic.Int64 // milliseconds

	last    atomic.Uint64 // greatest Timestamp issued or observed
	ceiling atomic.Uint64 // greatest that may be issued, 0: none
}

// NewClock returns a clock over a physical one, which returns Unix milliseconds
// and may jump in either direction. maxDrift (milliseconds, at least 0) bounds
// how far ahead of the physical clock an observed Timestamp may lie.
func NewClock(physical func() int64, maxDrift int64) *Clock {
	c := &Clock{physical: physical}
	c.SetMaxDrift(maxDrift)
	return c
}

// MaxDrift returns the drift limit in milliseconds.
func (c *Clock) MaxDrift() int64 { return c.maxDrift.Load() }

// SetMaxDrift replaces the drift limit, in milliseconds, at least 0. What was
// observed under the one before stays.
func (c *Clock) SetMaxDrift(maxDrift int64) { c.maxDrift.Store(maxDrift) }

// advance moves the clock from last to next, unless somebody else moved it.
func (c *Clock) advance(last, next Timestamp) bool {
	return c.last.CompareAndSwap(uint64(last), uint64(next))
}

// Read returns the present without issuing it: the physical clock, or what was
// issued, observed or read if that is later. So it never goes back, and nothing
// that a reader saw expire is there again.
func (c *Clock) Read() Timestamp {
	c.Raise(At(c.physical()))
	return c.Last()
}

// Physical returns what the physical clock reads, in Unix milliseconds.
func (c *Clock) Physical() int64 { return c.physical() }

// Issue issues the next n Timestamps, at least 1, and returns the first; the others
// follow without a gap. The first is the start of the millisecond millis if that is
// ahead of all that was issued or observed, else one more than the last. millis is
// what Physical returned a moment before: a caller that issues under a lock reads the
// physical clock ahead of it.
//
// It issues none, and changes nothing, with a *DriftError or ErrCeiling.
func (c *Clock) Issue(millis int64, n int) (first Timestamp, err error) {
	now := At(millis)
	for {
		last := c.Last()
		first = max(now, last+1)
		end := first + Timestamp(n-1)
		if ahead := end.Millis() - millis; ahead > c.MaxDrift() {
			return 0, &DriftError{Ahead: ahead}
		}
		if ceiling := c.Ceiling(); ceiling != 0 && end > ceiling {
			return 0, ErrCeiling
		}
		if c.advance(last, end) {
			return first, nil
		}
	}
}

// DriftError is returned when what would be issued lies further ahead of the physical
// clock than the drift limit allows: peers would only defer what carries it.
type DriftError struct {
	Ahead int64 // milliseconds
}

func (e *DriftError) Error() string { return fmt.Sprintf("clock ahead by %d ms", e.Ahead) }

// ErrCeiling is returned when what would be issued lies above the ceiling.
var ErrCeiling = errors.New("clock has reached its ceiling")

// RaiseCeiling makes t the greatest Timestamp that may be issued, unless a greater one
// may be already. A clock has no ceiling before the first call. What is observed and
// read knows none: that is nobody's promise.
func (c *Clock) RaiseCeiling(t Timestamp) {
	for now := c.ceiling.Load(); now < uint64(t) && !c.ceiling.CompareAndSwap(now, uint64(t)); now = c.ceiling.Load() {
	}
}

// Ceiling returns the greatest Timestamp that may be issued, 0 when all may.
func (c *Clock) Ceiling() Timestamp { return Timestamp(c.ceiling.Load()) }

// Observe takes note of a Timestamp that came from elsewhere, so that whatever
// is issued afterwards is greater. It reports false, and changes nothing, when
// t lies further ahead of the physical clock than the drift limit allows; due
// is then the Unix millisecond at which t will be acceptable.
func (c *Clock) Observe(t Timestamp) (due int64, ok bool) {
	if due, ok = c.Acceptable(t); ok {
		c.Raise(t)
	}
	return due, ok
}

// Acceptable says what Observe would, and changes nothing.
func (c *Clock) Acceptable(t Timestamp) (due int64, ok bool) {
	if t <= c.Last() {
		return 0, true
	}
	if earliest := t.Millis() - c.MaxDrift(); earliest > c.physical() {
		return earliest, false
	}
	return 0, true
}

// Raise makes the clock issue only Timestamps above t, whatever the drift. It
// is for bounds that this node itself recorded, such as one read back from
// disk; what comes from a peer goes through Observe.
func (c *Clock) Raise(t Timestamp) {
	for last := c.Last(); last < t && !c.advance(last, t); last = c.Last() {
	}
}

// Last returns the greatest Timestamp issued or observed, 0 if there is none.
func (c *Clock) Last() Timestamp { return Timestamp(c.last.Load()) }

// Ahead returns by how many milliseconds the clock is ahead of the physical
// one, once that is more than the drift limit; else 0.
func (c *Clock) Ahead() int64 {
	millis := c.physical()
	if ahead := c.Last().Millis() - millis; ahead > c.MaxDrift() {
		return ahead
	}
	return 0
}
