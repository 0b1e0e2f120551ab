package mqttlink

import (
	"math/rand/v2"
	"time"
)

// backoff says how long to wait before the next attempt: twice as long after each
// failure, and up to half of it taken off at random so that the nodes of a cluster
// do not all knock at the same moment.
type backoff struct {
	min, max time.Duration
	rand     func() float64 // in [0, 1)
	failures int
}

func newBackoff(o Options) backoff {
	b := backoff{min: o.MinBackoff, max: o.MaxBackoff, rand: o.Rand}
	if b.rand == nil {
		b.rand = rand.Float64
	}
	return b
}

// next returns the wait after one more failure.
func (b *backoff) next() time.Duration {
	d := b.max
	if shift := b.failures; shift < 32 && b.min<<shift>>shift == b.min && b.min<<shift < b.max {
		d = b.min << shift
	}
	b.failures++
	return d - time.Duration(b.rand()*float64(d)/2)
}

// reset forgets the failures.
func (b *backoff) reset() { b.failures = 0 }
