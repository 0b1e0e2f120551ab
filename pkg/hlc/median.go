package hlc

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// SampleAge is how long a peer's clock reading counts in the median.
const SampleAge = 10 * time.Second

// farOff is how far a single peer's clock may be from the own one and still
// count. With two clocks that far apart nobody can say which is wrong; with
// three, the median can.
const farOff = 24 * time.Hour

// SystemClock returns a reading function for NewMedianClock: the machine's wall
// clock in Unix milliseconds, and the time since the call by its monotonic clock.
func SystemClock() func() (wall int64, elapsed time.Duration) {
	start := time.Now()
	return func() (int64, time.Duration) {
		now := time.Now()
		return now.UnixMilli(), now.Sub(start)
	}
}

// MedianClock is a physical clock that does not trust one machine: it reads as
// the lower median of the own wall clock and of the peers' clocks, as far as
// those were heard within SampleAge. One clock of three that jumps or stands
// still therefore moves nobody, not even if it is the own one: peers' readings
// are carried on by monotonic time, which no jump touches.
type MedianClock struct {
	read func() (wall int64, elapsed time.Duration)

	// All clocks are compared as offsets, in milliseconds: reading less elapsed.
	// The median of the own offset and the sorted ones of the peers is the own
	// one, held between the two in their middle.
	low, high atomic.Int64
	expires   atomic.Int64 // elapsed time at which a sample becomes too old; 0: never

	mu      sync.Mutex
	samples map[string]sample // by peer
}

// sample is what is known of a peer's clock. A reading is late by the time that it
// was under way, never early, so the greatest offset of some seconds is the best.
type sample struct {
	offset   int64         // the greatest of the present window
	before   int64         // and of the one before
	since    time.Duration // elapsed when the present window began
	at       time.Duration // elapsed when it was last heard
	reported bool
}

const (
	sampleWindow = 3 * time.Second
	// clockStep is by how many milliseconds a reading may be late before it counts
	// as a clock that was set back.
	clockStep = 1000
)

func (s sample) best() int64 { return max(s.offset, s.before) }

// add takes in the offset of a reading.
func (s sample) add(offset int64, elapsed time.Duration) sample {
	switch {
	case !s.reported || elapsed-s.at > SampleAge || offset < s.best()-clockStep:
		s = sample{offset: offset, before: offset, since: elapsed, reported: true}
	case elapsed-s.since > sampleWindow:
		s.before, s.offset, s.since = s.offset, offset, elapsed
	default:
		s.offset = max(s.offset, offset)
	}
	s.at = elapsed
	return s
}

// NewMedianClock returns a clock over the own machine's, usually SystemClock().
func NewMedianClock(read func() (wall int64, elapsed time.Duration)) *MedianClock {
	m := &MedianClock{read: read, samples: make(map[string]sample)}
	m.low.Store(math.MinInt64)
	m.high.Store(math.MaxInt64)
	return m
}

// Report records that a peer's clock just read millis (Unix milliseconds). What
// no Timestamp can express is ignored.
func (m *MedianClock) Report(peer string, millis int64) {
	if millis <= 0 || millis > maxMillis {
		return
	}
	wall, elapsed := m.read()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples[peer] = m.samples[peer].add(millis-elapsed.Milliseconds(), elapsed)
	m.recomputeLocked(wall, elapsed)
}

// Wall returns what the machine's own clock reads, in Unix milliseconds. It is for
// the peers' medians, where a reading that is a median itself must not go: clocks
// that follow each other follow nobody.
func (m *MedianClock) Wall() int64 {
	wall, _ := m.read()
	return wall
}

// Millis returns the median reading in Unix milliseconds.
func (m *MedianClock) Millis() int64 {
	wall, elapsed := m.read()
	if end := m.expires.Load(); end != 0 && int64(elapsed) > end {
		m.mu.Lock()
		m.recomputeLocked(wall, elapsed)
		m.mu.Unlock()
	}
	since := elapsed.Milliseconds()
	return since + min(max(wall-since, m.low.Load()), m.high.Load())
}

// recomputeLocked drops samples that are too old and finds the bounds between
// which the median lies.
func (m *MedianClock) recomputeLocked(wall int64, elapsed time.Duration) {
	var offsets []int64
	var expires time.Duration
	for peer, s := range m.samples {
		if elapsed-s.at > SampleAge {
			delete(m.samples, peer)
			continue
		}
		offsets = append(offsets, s.best())
		if end := s.at + SampleAge; expires == 0 || end < expires {
			expires = end
		}
	}
	slices.Sort(offsets)
	if len(offsets) == 1 && abs(offsets[0]-(wall-elapsed.Milliseconds())) > farOff.Milliseconds() {
		offsets = nil
	}
	// Of n peers and the own clock, the lower median has n/2 clocks below it.
	low, high, n := int64(math.MinInt64), int64(math.MaxInt64), len(offsets)
	if n/2 > 0 {
		low = offsets[n/2-1]
	}
	if n/2 < n {
		high = offsets[n/2]
	}
	m.low.Store(low)
	m.high.Store(high)
	m.expires.Store(int64(expires))
}

func abs(n int64) int64 { return max(n, -n) }
