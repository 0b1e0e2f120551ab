// Package vector records which changes of which origin were received.
//
// An origin (an instance of a node) numbers its changes from 1. A Vector holds, for
// each instance, the end of the prefix without gaps, a bounded number of runs
// above it, and where the prefix ended in each epoch that is still asked about. It
// is a version vector with exceptions, as in Malkhi and Terry, "Concise Version
// Vectors in WinFS" (DISC 2005), with stamps beside the sequences.
package vector

import (
	"iter"
	"maps"
	"slices"
	"sort"

	"merklekv/pkg/hlc"
)

// MaxRuns is how many runs of changes above a gap are remembered for one
// instance. What arrives beyond counts as not received.
const MaxRuns = 1024

// Mark is a place in the sequence of an instance: the last change of a prefix
// without gaps, and its stamp. Both are needed: a sequence alone cannot be
// compared with a version.
type Mark struct {
	Seq uint64
	HLC hlc.Timestamp
}

// run is a run of changes received above a gap. All of one run belong to one
// epoch, or to epochs that nobody asks for any more, so that the marks are exact
// when the gap closes.
type run struct {
	low, high uint64
	clock     hlc.Timestamp // of high
}

// progress is what was received of one instance.
type progress struct {
	prefix Mark
	runs   []run  // ascending, disjoint, all above prefix.Seq+1
	marks  []Mark // the prefix's last change of each epoch that is asked about, ascending
}

// Vector records, for each instance, which changes were received: a prefix
// without gaps and a bounded number of runs above it. It knows no clock and is
// not safe for concurrent use.
type Vector struct {
	instances map[uint64]*progress
	oldest    int64 // marks below this epoch are not asked for
}

// New returns a vector that has received nothing. Its memory grows with the epochs
// in which changes were made, unless [Vector.Retain] says which ones matter.
func New() *Vector { return &Vector{instances: make(map[uint64]*progress)} }

// Added says what Add found.
type Added uint8

// The results of Add.
const (
	Recorded Added = iota // it was new
	Before                // it was received before
	Nowhere               // it is not recorded: too many runs above a gap
)

func (v *Vector) at(instance uint64) *progress {
	p := v.instances[instance]
	if p == nil {
		p = new(progress)
		v.instances[instance] = p
	}
	return p
}

// Add records that the change seq (at least 1) of an instance was received.
func (v *Vector) Add(instance, seq uint64, clock hlc.Timestamp) Added {
	p := v.at(instance)
	if seq == p.prefix.Seq+1 {
		p.advance(Mark{seq, clock}, v.oldest)
		p.absorb(v.oldest)
		return Recorded
	}
	if p.contains(seq) {
		return Before
	}
	return p.insert(seq, clock, v.oldest)
}

// AppendRun records that all changes from low to high of an instance were received,
// without saying when they were made: At knows nothing of them. It reports whether
// they lie above everything recorded of the instance and there was room.
func (v *Vector) AppendRun(instance, low, high uint64) bool {
	p := v.at(instance)
	above := p.prefix.Seq
	if n := len(p.runs); n > 0 {
		above = p.runs[n-1].high
	}
	if low <= above || high < low || len(p.runs) >= MaxRuns {
		return false
	}
	p.runs = append(p.runs, run{low: low, high: high})
	return true
}

// Contains reports whether the change seq of an instance was received.
func (v *Vector) Contains(instance, seq uint64) bool {
	p := v.instances[instance]
	return p != nil && p.contains(seq)
}

// Prefix returns the end of the prefix of an instance.
func (v *Vector) Prefix(instance uint64) Mark {
	if p := v.instances[instance]; p != nil {
		return p.prefix
	}
	return Mark{}
}

// Gaps calls fn for each instance of which something was received above a gap, in
// no order: with the end of its prefix, and the lowest epoch above the gap.
func (v *Vector) Gaps(fn func(instance, prefix uint64, epoch int64)) {
	for id, p := range v.instances {
		if len(p.runs) > 0 {
			fn(id, p.prefix.Seq, p.runs[0].clock.Epoch())
		}
	}
}

// Adopt makes the prefix of an instance reach m at least, as somebody who
// received all of it vouched for. It reports whether that changed anything.
func (v *Vector) Adopt(instance uint64, m Mark) bool {
	p := v.at(instance)
	if m.Seq <= p.prefix.Seq {
		return false
	}
	p.advance(m, v.oldest)
	drop := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].high > m.Seq })
	p.runs = slices.Delete(p.runs, 0, drop)
	if len(p.runs) > 0 && p.runs[0].low <= m.Seq {
		p.runs[0].low = m.Seq + 1
	}
	p.absorb(v.oldest)
	return true
}

// At returns the end of that part of an instance's prefix whose epoch is at most
// e, which must not be below Oldest.
func (v *Vector) At(instance uint64, e int64) Mark {
	p := v.instances[instance]
	if p == nil {
		return Mark{}
	}
	for _, m := range slices.Backward(p.marks) {
		if m.HLC.Epoch() <= e {
			return m
		}
	}
	return Mark{}
}

// Retain says that At will not be asked about epochs below oldest again. Who never
// asks says math.MaxInt64 before anything else: then one mark is kept for each
// instance, and runs are joined whatever their epochs.
func (v *Vector) Retain(oldest int64) {
	v.oldest = oldest
	for _, p := range v.instances {
		n := 0
		for n+1 < len(p.marks) && p.marks[n+1].HLC.Epoch() <= oldest {
			n++
		}
		p.marks = slices.Delete(p.marks, 0, n)
		p.coalesce(oldest)
	}
}

// Oldest returns the epoch last given to Retain.
func (v *Vector) Oldest() int64 { return v.oldest }

// Len returns of how many instances anything was received.
func (v *Vector) Len() int { return len(v.instances) }

// Has reports whether anything was received of an instance.
func (v *Vector) Has(instance uint64) bool { return v.instances[instance] != nil }

// Instances returns the instances of which anything was received, ascending.
func (v *Vector) Instances() []uint64 { return slices.Sorted(maps.Keys(v.instances)) }

// Runs returns the runs of an instance above its gaps, ascending, each by its first
// and last sequence.
func (v *Vector) Runs(instance uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(low, high uint64) bool) {
		p := v.instances[instance]
		if p == nil {
			return
		}
		for _, r := range p.runs {
			if !yield(r.low, r.high) {
				return
			}
		}
	}
}

func (p *progress) contains(seq uint64) bool {
	if seq <= p.prefix.Seq {
		return true
	}
	i := p.find(seq)
	return i < len(p.runs) && p.runs[i].low <= seq
}

// find returns the index of the first run that ends at seq or later.
func (p *progress) find(seq uint64) int {
	if n := len(p.runs); n > 0 && p.runs[n-1].high < seq {
		return n // the usual case: in order, above one gap
	}
	return sort.Search(len(p.runs), func(i int) bool { return p.runs[i].high >= seq })
}

// advance moves the prefix to m, which is above it, and keeps its epoch's mark;
// epochs up to oldest share one. Stamps follow the sequence; an origin that breaks
// that does not make them go back here.
func (p *progress) advance(m Mark, oldest int64) {
	m.HLC = max(m.HLC, p.prefix.HLC)
	p.prefix = m
	last := len(p.marks) - 1
	if last >= 0 && max(p.marks[last].HLC.Epoch(), oldest) >= max(m.HLC.Epoch(), oldest) {
		p.marks[last] = m
		return
	}
	p.marks = append(p.marks, m)
}

// absorb moves the prefix over the runs that it has reached.
func (p *progress) absorb(oldest int64) {
	n := 0
	for n < len(p.runs) && p.runs[n].low == p.prefix.Seq+1 {
		p.advance(Mark{p.runs[n].high, p.runs[n].clock}, oldest)
		n++
	}
	p.runs = slices.Delete(p.runs, 0, n)
}

// insert records seq above a gap.
func (p *progress) insert(seq uint64, clock hlc.Timestamp, oldest int64) Added {
	i := p.find(seq)
	epoch := max(clock.Epoch(), oldest)
	left := i > 0 && p.runs[i-1].high+1 == seq && max(p.runs[i-1].clock.Epoch(), oldest) == epoch
	right := i < len(p.runs) && p.runs[i].low == seq+1 && max(p.runs[i].clock.Epoch(), oldest) == epoch
	switch {
	case left && right:
		p.runs[i].low = p.runs[i-1].low
		p.runs = slices.Delete(p.runs, i-1, i)
	case left:
		p.runs[i-1].high, p.runs[i-1].clock = seq, clock
	case right:
		p.runs[i].low = seq
	case len(p.runs) >= MaxRuns:
		return Nowhere
	default:
		p.runs = slices.Insert(p.runs, i, run{seq, seq, clock})
	}
	return Recorded
}

// coalesce joins adjacent runs whose epochs are no longer told apart.
func (p *progress) coalesce(oldest int64) {
	if len(p.runs) < 2 {
		return
	}
	kept := p.runs[:1]
	for _, r := range p.runs[1:] {
		last := &kept[len(kept)-1]
		if last.high+1 == r.low && r.clock.Epoch() <= oldest {
			last.high, last.clock = r.high, r.clock
			continue
		}
		kept = append(kept, r)
	}
	p.runs = kept
}
