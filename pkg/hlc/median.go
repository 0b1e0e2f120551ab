package hlc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// SampleAge is how long a peer's clock reading counts in the median.
const SampleAge = 10 * time.Second

// MedianClock is a physical clock that does not trust one machine: it reads as
// the lower median of the own wall clock and of the peers' clocks, as far as
// those were heard within SampleAge. One clock of three that jumps or stands
// still therefore moves nobody.
//
// Peers' clocks are kept as offsets to the own one and aged by monotonic time,
// which a jump of the wall clock does not touch.
type MedianClock struct {
	wall func() time.Time // with a monotonic reading

	// What Millis needs, which every write calls: it takes the lock only when a
	// sample has become too old.
	offset  atomic.Int64 // milliseconds to add to the own wall clock
	expires atomic.Int64 // when offset must be computed anew, since start; 0: never
	start   time.Time

	mu      sync.Mutex
	samples map[string]sample // by peer
}

type sample struct {
	offset int64 // peer's clock less the own one, milliseconds
	at     time.Time
}

// NewMedianClock returns a clock over the own wall clock, usually time.Now.
func NewMedianClock(wall func() time.Time) *MedianClock {
	return &MedianClock{wall: wall, start: wall(), samples: make(map[string]sample)}
}

// Report records that a peer's clock just read millis (Unix milliseconds).
func (m *MedianClock) Report(peer string, millis int64) {
	now := m.wall()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples[peer] = sample{offset: millis - now.UnixMilli(), at: now}
	m.recomputeLocked(now)
}

// Millis returns the median reading in Unix milliseconds.
func (m *MedianClock) Millis() int64 {
	now := m.wall()
	if end := m.expires.Load(); end != 0 && int64(now.Sub(m.start)) > end {
		m.mu.Lock()
		m.recomputeLocked(now)
		m.mu.Unlock()
	}
	return now.UnixMilli() + m.offset.Load()
}

// recomputeLocked drops samples that are too old and finds the median offset.
// The own clock is the offset 0.
func (m *MedianClock) recomputeLocked(now time.Time) {
	offsets := []int64{0}
	var expires time.Duration
	for peer, s := range m.samples {
		if now.Sub(s.at) > SampleAge {
			delete(m.samples, peer)
			continue
		}
		offsets = append(offsets, s.offset)
		if end := s.at.Sub(m.start) + SampleAge; expires == 0 || end < expires {
			expires = end
		}
	}
	slices.Sort(offsets)
	m.offset.Store(offsets[(len(offsets)-1)/2])
	m.expires.Store(int64(expires))
}
