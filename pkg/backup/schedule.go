package backup

import "time"

// Times of a schedule.
const (
	settle     = 10 * time.Second // from the start to the first backup, at least
	settleMore = 20 * time.Second // and at most so much later
	retryFirst = time.Minute      // after a failure; twice as long after each further one
	retryMost  = time.Hour
	// early is the part of the interval, one in so many, by which a backup may come
	// before its time. Backups come earlier by what is drawn, not later, so that none
	// is older than the interval when the next one is begun.
	early = 20
)

// schedule says when the next backup is due. It knows no clock: times are passed
// in, those of a wall clock, which may be set.
type schedule struct {
	interval time.Duration
	draw     func() float64 // in [0, 1), so that the nodes of a cluster do not all begin at one moment

	start    time.Time
	last     time.Time // of the last good backup; zero if there is none
	share    float64   // drawn for the next one
	failed   time.Time // of the last attempt, zero if it went well
	failures int       // in a row
}

// newSchedule returns the schedule of a node that starts at a time, when its last
// good backup was made at last, zero if there is none.
func newSchedule(interval time.Duration, start, last time.Time, draw func() float64) *schedule {
	return &schedule{interval: interval, draw: draw, start: start, last: last, share: draw()}
}

// made notes a good backup.
func (s *schedule) made(at time.Time) {
	s.last, s.failed, s.failures, s.share = at, time.Time{}, 0, s.draw()
}

// missed notes an attempt that failed.
func (s *schedule) missed(at time.Time) {
	s.failed, s.share = at, s.draw()
	s.failures++
}

// due returns when the next backup is to be made, as seen at a time. What lies in
// the future then, because the clock was set back, counts as having been now.
func (s *schedule) due(now time.Time) time.Time {
	if s.failures > 0 {
		wait := min(retryMost, s.interval)
		if shift := s.failures - 1; shift < 10 {
			wait = min(wait, retryFirst<<shift)
		}
		return earlier(s.failed, now).Add(wait)
	}
	first := earlier(s.start, now).Add(settle + portion(settleMore, s.share))
	if s.last.IsZero() {
		return first
	}
	next := earlier(s.last, now).Add(s.interval - portion(s.interval/early, s.share))
	return later(first, next)
}

// overdue reports whether the last good backup is older than twice the interval,
// or, without one, whether the start is.
func (s *schedule) overdue(now time.Time) bool {
	since := s.last
	if since.IsZero() {
		since = s.start
	}
	return now.Sub(since) > 2*s.interval
}

func portion(d time.Duration, share float64) time.Duration { return time.Duration(float64(d) * share) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
