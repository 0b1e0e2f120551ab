package replication

import (
	"maps"
	"slices"
	"sort"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
)

// maxSpans is how many runs of changes above a gap are remembered for one
// instance. What arrives beyond counts as not received.
const maxSpans = 1024

// Mark is a place in the sequence of an instance: the last change of a prefix
// without gaps, and its stamp. Both are needed: a sequence alone cannot be
// compared with a version.
type Mark struct {
	Seq uint64
	HLC hlc.Timestamp
}

// span is a run of changes received above a gap. All of one span belong to one
// epoch, or to epochs that nobody asks for any more, so that the marks are exact
// when the gap closes.
type span struct {
	low, high uint64
	clock     hlc.Timestamp // of high
}

// progress is what was received of one instance.
type progress struct {
	prefix Mark
	spans  []span // ascending, disjoint, all above prefix.Seq+1
	marks  []Mark // the prefix's last change of each epoch, ascending
}

// Vector records, for each instance, which changes were received: a prefix
// without gaps and a bounded number of runs above it. It knows no clock and is
// not safe for concurrent use.
type Vector struct {
	instances map[uint64]*progress
	oldest    int64 // marks below this epoch are not asked for
}

// NewVector returns a vector that has received nothing.
func NewVector() *Vector { return &Vector{instances: make(map[uint64]*progress)} }

// added says what Add found.
type added uint8

const (
	addedNew     added = iota // recorded now
	addedBefore               // received before
	addedNowhere              // not recorded: too many runs above a gap
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
func (v *Vector) Add(instance, seq uint64, clock hlc.Timestamp) added {
	p := v.at(instance)
	if seq == p.prefix.Seq+1 {
		p.advance(Mark{seq, clock})
		p.absorb()
		return addedNew
	}
	if p.contains(seq) {
		return addedBefore
	}
	return p.insert(seq, clock, v.oldest)
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

// gaps calls fn for each instance of which something was received above a gap:
// with the end of its prefix, and the lowest epoch above the gap.
func (v *Vector) gaps(fn func(instance, prefix uint64, epoch int64)) {
	for id, p := range v.instances {
		if len(p.spans) > 0 {
			fn(id, p.prefix.Seq, p.spans[0].clock.Epoch())
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
	p.advance(m)
	drop := sort.Search(len(p.spans), func(i int) bool { return p.spans[i].high > m.Seq })
	p.spans = slices.Delete(p.spans, 0, drop)
	if len(p.spans) > 0 && p.spans[0].low <= m.Seq {
		p.spans[0].low = m.Seq + 1
	}
	p.absorb()
	return true
}

// At returns the end of that part of an instance's prefix whose epoch is at most
// e, which must not be below the epoch last given to Retain.
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

// Retain says that At will not be asked about epochs below oldest again.
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

// Len returns of how many instances anything was received.
func (v *Vector) Len() int { return len(v.instances) }

// Has reports whether anything was received of an instance.
func (v *Vector) Has(instance uint64) bool { return v.instances[instance] != nil }

// Instances returns the instances of which anything was received, ascending.
func (v *Vector) Instances() []uint64 { return slices.Sorted(maps.Keys(v.instances)) }

// Items returns the prefixes that are not empty, by ascending instance.
func (v *Vector) Items() []protocol.VectorItem {
	items := make([]protocol.VectorItem, 0, len(v.instances))
	for _, id := range v.Instances() {
		if m := v.instances[id].prefix; m.Seq > 0 {
			items = append(items, protocol.VectorItem{Instance: id, Seq: m.Seq, HLC: uint64(m.HLC)})
		}
	}
	return items
}

// Spans returns what was received above gaps, at most limit runs.
func (v *Vector) Spans(limit int) []protocol.VectorSpan {
	var spans []protocol.VectorSpan
	for _, id := range v.Instances() {
		for _, s := range v.instances[id].spans {
			if len(spans) == limit {
				return spans
			}
			spans = append(spans, protocol.VectorSpan{Instance: id, Low: s.low, High: s.high})
		}
	}
	return spans
}

func (p *progress) contains(seq uint64) bool {
	if seq <= p.prefix.Seq {
		return true
	}
	i := p.find(seq)
	return i < len(p.spans) && p.spans[i].low <= seq
}

// find returns the index of the first span that ends at seq or later.
func (p *progress) find(seq uint64) int {
	if n := len(p.spans); n > 0 && p.spans[n-1].high < seq {
		return n // the usual case: in order, above one gap
	}
	return sort.Search(len(p.spans), func(i int) bool { return p.spans[i].high >= seq })
}

// advance moves the prefix to m, which is above it, and keeps its epoch's mark.
// Stamps follow the sequence; an origin that breaks that does not make them go
// back here.
func (p *progress) advance(m Mark) {
	m.HLC = max(m.HLC, p.prefix.HLC)
	p.prefix = m
	last := len(p.marks) - 1
	if last >= 0 && p.marks[last].HLC.Epoch() >= m.HLC.Epoch() {
		p.marks[last] = m
		return
	}
	p.marks = append(p.marks, m)
}

// absorb moves the prefix over the spans that it has reached.
func (p *progress) absorb() {
	n := 0
	for n < len(p.spans) && p.spans[n].low == p.prefix.Seq+1 {
		p.advance(Mark{p.spans[n].high, p.spans[n].clock})
		n++
	}
	p.spans = slices.Delete(p.spans, 0, n)
}

// insert records seq above a gap.
func (p *progress) insert(seq uint64, clock hlc.Timestamp, oldest int64) added {
	i := p.find(seq)
	epoch := max(clock.Epoch(), oldest)
	left := i > 0 && p.spans[i-1].high+1 == seq && max(p.spans[i-1].clock.Epoch(), oldest) == epoch
	right := i < len(p.spans) && p.spans[i].low == seq+1 && max(p.spans[i].clock.Epoch(), oldest) == epoch
	switch {
	case left && right:
		p.spans[i].low = p.spans[i-1].low
		p.spans = slices.Delete(p.spans, i-1, i)
	case left:
		p.spans[i-1].high, p.spans[i-1].clock = seq, clock
	case right:
		p.spans[i].low = seq
	case len(p.spans) >= maxSpans:
		return addedNowhere
	default:
		p.spans = slices.Insert(p.spans, i, span{seq, seq, clock})
	}
	return addedNew
}

// coalesce joins adjacent spans whose epochs are no longer told apart.
func (p *progress) coalesce(oldest int64) {
	if len(p.spans) < 2 {
		return
	}
	kept := p.spans[:1]
	for _, s := range p.spans[1:] {
		last := &kept[len(kept)-1]
		if last.high+1 == s.low && s.clock.Epoch() <= oldest {
			last.high, last.clock = s.high, s.clock
			continue
		}
		kept = append(kept, s)
	}
	p.spans = kept
}

// vectorOf builds a vector from what a peer sent, for asking Contains and Prefix.
func vectorOf(items []protocol.VectorItem, spans []protocol.VectorSpan) *Vector {
	v := NewVector()
	for _, it := range items {
		v.Adopt(it.Instance, Mark{it.Seq, hlc.Timestamp(it.HLC)})
	}
	slices.SortFunc(spans, func(a, b protocol.VectorSpan) int {
		if a.Low < b.Low {
			return -1
		}
		return 1
	})
	for _, s := range spans {
		p := v.at(s.Instance)
		above := p.prefix.Seq
		if n := len(p.spans); n > 0 {
			above = p.spans[n-1].high
		}
		if s.Low > above && s.High >= s.Low && len(p.spans) < maxSpans {
			p.spans = append(p.spans, span{low: s.Low, high: s.High})
		}
	}
	return v
}
