package hlc

import (
	"slices"
	"sync"
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

	mu      sync.Mutex
	samples map[string]sample // by peer
	offset  int64             // milliseconds to add to the own wall clock
	expires time.Time         // when offset must be computed anew; zero: never
}

type sample struct {
	offset int64 // peer's clock less the own one, milliseconds
	at     time.Time
}

// NewMedianClock returns a clock over the own wall clock, usually time.Now.
func NewMedianClock(wall func() time.Time) *MedianClock {
	return &MedianClock{wall: wall, samples: make(map[string]sample)}
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.expires.IsZero() && now.After(m.expires) {
		m.recomputeLocked(now)
	}
	return now.UnixMilli() + m.offset
}

// recomputeLocked drops samples that are too old and finds the median offset.
// The own clock is the offset 0.
func (m *MedianClock) recomputeLocked(now time.Time) {
	offsets := []int64{0}
	m.expires = time.Time{}
	for peer, s := range m.samples {
		end := s.at.Add(SampleAge)
		if now.After(end) {
			delete(m.samples, peer)
			continue
		}
		offsets = append(offsets, s.offset)
		if m.expires.IsZero() || end.Before(m.expires) {
			m.expires = end
		}
	}
	slices.Sort(offsets)
	m.offset = offsets[(len(offsets)-1)/2]
}
