package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const maxNodes = 5

// span is where a number is drawn from, both ends included.
type span[T int | int64 | float64 | time.Duration] struct{ low, high T }

// profile is a kind of run: what its seeds draw from.
type profile struct {
	name, about string

	nodes   span[int]
	chaos   span[time.Duration] // how long there are writes and faults
	loss    span[float64]       // share of messages that a broker loses
	dup     span[float64]       // share that it repeats
	breaks  span[float64]       // share of frames at which a link breaks
	delay   span[time.Duration] // the greatest delay of a message
	ordered bool                // messages of one connection do not overtake each other
	rate    span[float64]       // writes a second of one writer
	writers span[int]           // a node
	keys    span[int]
	rings   []int64    // bytes of the log
	disks   bool       // every node has one, else every second
	keeping []policy   // of the disks; none: instant
	skews   []int64    // milliseconds, of which a node's clock is ahead by up to one, either way
	faults  []weighted // none: nothing goes wrong
	every   span[time.Duration]
	quiet   time.Duration // that is watched once all are equal
	exact   bool          // two roots never differ where the vectors are equal
	strict  bool          // and no session runs
	always  bool          // sessions run all the time
}

// weighted is a fault and how often it is drawn, in relation to the others.
type weighted struct {
	fault  fault
	weight int
}

// plan is what one seed draws before it begins.
type plan struct {
	nodes, writers, keys int
	chaos                time.Duration
	loss, dup, breaks    float64
	delay                time.Duration
	rate                 float64
	rings                []int64
	skews                []int64
	first                time.Duration // the first fault
	policies             []policy
	sync                 time.Duration // how long a sync usually takes at most
}

func drawInt(r *rand.Rand, s span[int]) int { return s.low + r.IntN(s.high-s.low+1) }

func drawFloat(r *rand.Rand, s span[float64]) float64 { return s.low + r.Float64()*(s.high-s.low) }

func drawTime(r *rand.Rand, s span[time.Duration]) time.Duration {
	return s.low + time.Duration(r.Int64N(int64(s.high-s.low)+1))
}

func (p *profile) draw(r *rand.Rand) plan {
	d := plan{
		nodes: drawInt(r, p.nodes), writers: drawInt(r, p.writers), keys: drawInt(r, p.keys),
		chaos: drawTime(r, p.chaos), loss: drawFloat(r, p.loss), dup: drawFloat(r, p.dup),
		breaks: drawFloat(r, p.breaks), delay: drawTime(r, p.delay), rate: drawFloat(r, p.rate),
		first: 2*time.Second + drawTime(r, p.every),
	}
	for range d.nodes {
		d.rings = append(d.rings, p.rings[r.IntN(len(p.rings))])
		skew := p.skews[r.IntN(len(p.skews))]
		d.skews = append(d.skews, r.Int64N(2*skew+1)-skew)
	}
	return d
}

// drawDisks draws when each node's disk keeps what, and how slow all of them are.
func (d *plan) drawDisks(p *profile, r *rand.Rand) {
	keeping := p.keeping
	if len(keeping) == 0 {
		keeping = []policy{instant}
	}
	if r.IntN(2) == 0 { // the same everywhere
		keeping = []policy{keeping[r.IntN(len(keeping))]}
	}
	for range d.nodes {
		d.policies = append(d.policies, keeping[r.IntN(len(keeping))])
	}
	d.sync = []time.Duration{2 * time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond}[r.IntN(3)]
}

func (d *plan) String() string {
	return fmt.Sprintf("%d nodes, %d writers each at %.1f/s, %d keys, %v of faults from %v on, loss %.0f %%, duplicates %.0f %%, "+
		"broken frames %.1f %%, delay up to %v, logs of %v bytes, clocks ahead by %v ms, disks %v, syncs up to %v",
		d.nodes, d.writers, d.rate, d.keys, d.chaos.Round(time.Millisecond), d.first.Round(time.Millisecond), 100*d.loss, 100*d.dup,
		100*d.breaks, d.delay.Round(time.Millisecond), d.rings, d.skews, d.policies, d.sync)
}
