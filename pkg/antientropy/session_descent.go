package antientropy

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"

	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// Shape of the descent, in entries and ranges.
const (
	leafMean      = 35   // aim of the last fan-out
	leafMax       = 100  // at most so many entries are listed
	listMax       = 256  // digests of one list, of any peer
	wideLeaf      = 1400 // at most so many entries are fanned out to leaves at once
	maxFanOut     = 1024
	maxUnbalanced = 1 << 15                    // parts that a range without balance is cut into
	maxItem       = protocol.SyncFrameSize / 2 // bytes of one range's description
	maxSpanBytes  = 16 << 20                   // bytes of the separators kept of a turn
)

// span is a range of keys with what this side holds there.
type span struct {
	low, high []byte // low <= key < high; nil: from the start, to the end
	tree      merkle.Tree
}

func (p *span) contains(key []byte) bool {
	return (p.low == nil || bytes.Compare(p.low, key) <= 0) && (p.high == nil || bytes.Compare(key, p.high) < 0)
}

// answer is a range that the peer described and that differs.
type answer struct {
	span
	index int // among the peer's children of the last turn
}

// fanOut returns into how many parts a range of n entries is fingerprinted.
func fanOut(n int, frontier bool) int {
	switch {
	case frontier && n <= 200_000:
		return 16
	case frontier && n <= 2_000_000:
		return 64
	case frontier && n <= 20_000_000:
		return 256
	case frontier:
		return maxFanOut
	case n <= wideLeaf:
		return (n + leafMean - 1) / leafMean
	}
	return min(int(math.Sqrt(float64(n)/leafMean)), maxFanOut)
}

// childrenOf cuts a range into about n parts. Where the tree has little balance,
// as with keys that are prefixes of each other, small parts are put together, so
// that every turn gets deeper by a factor.
func childrenOf(p span, n int) []span {
	parts, size := p.tree.Split(n), p.tree.Len()/n+1
	for m, last := 8*n, 0; m <= maxUnbalanced; m *= 8 {
		largest := largestPart(parts)
		if largest <= 4*size || largest == last {
			break // as it should be, or one key of many facets
		}
		parts, last = p.tree.Split(m), largest
	}
	children := make([]span, 0, n)
	for i, sum := 0, 0; i < len(parts); i++ {
		low := parts[i].Low
		if i == 0 {
			low = p.low
		}
		count := parts[i].Tree.Len()
		if last := len(children) - 1; len(parts) > n && i > 0 && sum+count <= size {
			sum += count
			children[last].tree = merkle.Tree{}
			continue
		}
		sum = count
		children = append(children, span{low: low, tree: parts[i].Tree})
	}
	for i := range children {
		c := &children[i]
		if c.high = p.high; i+1 < len(children) {
			c.high = children[i+1].low
		}
		if c.tree.Len() == 0 {
			c.tree = p.tree.Range(c.low, c.high)
		}
	}
	return children
}

func largestPart(parts []merkle.Part) (n int) {
	for i := range parts {
		n = max(n, parts[i].Tree.Len())
	}
	return n
}

// whole reports whether p is the range of all keys, whose fingerprints are the
// frontier.
func (p *span) whole() bool { return p.low == nil && p.high == nil }

// describe answers a range of the peer's: with a list if little is held there,
// else with fingerprints of its parts. One key with many facets is a list too.
func (s *Session) describe(a *answer) {
	n := fanOut(a.tree.Len(), a.whole())
	if a.tree.Len() <= leafMax {
		s.addList(a)
		return
	}
	for {
		children := childrenOf(a.span, n)
		if len(children) == 1 {
			s.addList(a)
			return
		}
		item := s.appendFingerprints(children, a.whole())
		if len(item) <= maxItem || n == 2 {
			s.addChildren(a.index, item, children)
			return
		}
		n = max(n/4, 2) // separators so long are rare
	}
}

// addChildren describes a range by fingerprints, if the turn has room for it.
func (s *Session) addChildren(index int, item []byte, children []span) {
	for i := range children {
		s.out.spanBytes += len(children[i].low)
	}
	if len(s.out.children)+len(children) > s.bounds.turnSpans || s.out.spanBytes > maxSpanBytes || s.finishing() {
		s.result.Partial = true
		return
	}
	s.addRange(index, item)
	s.out.children = append(s.out.children, children...)
}

// addList describes a range by the digests of its keys.
func (s *Session) addList(a *answer) {
	if !s.dispute(a.span) {
		return
	}
	keys, digests := 0, []byte(nil)
	for _, tags := range keysOf(a.tree) {
		digests = appendDigest(digests, s.marks.digest(tags), s.marks.list)
		keys++
	}
	s.addRange(a.index, append(binary.AppendUvarint(nil, uint64(keys)<<1|1), digests...))
	s.out.lists = append(s.out.lists, list{a.span, keys})
}

// appendFingerprints describes a range by its parts.
func (s *Session) appendFingerprints(children []span, frontier bool) []byte {
	bits := s.marks.bits(frontier)
	item := binary.AppendUvarint(make([]byte, 0, 10*len(children)), uint64(len(children))<<1)
	var prev []byte
	for i := range children {
		if i > 0 {
			item = appendName(item, prev, children[i].low)
			prev = children[i].low
		}
		item = appendDigest(item, s.marks.fingerprint(children[i].tree, bits), bits)
	}
	return item
}

// addRange sends the description of the peer's range number index.
func (s *Session) addRange(index int, item []byte) {
	if len(s.out.ranges)+binary.MaxVarintLen64+len(item) > protocol.SyncFrameSize {
		s.out.seal(protocol.FrameRanges, &s.out.ranges)
	}
	s.out.ranges = binary.AppendUvarint(s.out.ranges, uint64(index-s.out.nextRange))
	s.out.ranges = append(s.out.ranges, item...)
	s.out.nextRange = index + 1
}

// takeRanges reads how the peer describes ranges that this side sent. Ranges
// passed over are equal.
func (s *Session) takeRanges(payload []byte) error {
	if s.opts.Mode == Full {
		return malformed("ranges in a full session")
	}
	r := wireReader{b: payload}
	for r.more() {
		index := s.turn.nextRange + int(r.upTo(maxTurnSpans))
		n := r.upTo(2*listMax*maxFanOut + 1)
		if index >= len(s.spans) {
			return malformed("answer to range %d of %d", index, len(s.spans))
		}
		s.turn.nextRange = index + 1
		if n&1 != 0 {
			s.takeList(&r, &s.spans[index], int(n>>1))
		} else {
			s.takeFingerprints(&r, &s.spans[index], int(n>>1))
		}
	}
	return r.end("ranges")
}

// takeFingerprints compares the parts of a range that the peer describes with
// what is held there.
func (s *Session) takeFingerprints(r *wireReader, parent *span, n int) {
	bits := s.marks.bits(parent.whole())
	if n < 2 || n > 4*maxFanOut || s.turn.children+n > maxTurnSpans {
		r.fail("impossible number of parts")
		return
	}
	low, name := parent.low, []byte(nil)
	for i := range n {
		theirs := r.bytes(width(bits))
		high := parent.high
		if i+1 < n {
			name = r.name(name)
			high = bytes.Clone(name)
			if low != nil && bytes.Compare(high, low) <= 0 || len(high) == 0 || parent.high != nil && bytes.Compare(high, parent.high) >= 0 {
				r.fail("separators out of order")
			}
		}
		if r.err != nil {
			return
		}
		child := span{low: low, high: high, tree: parent.tree.Range(low, high)}
		if s.marks.fingerprint(child.tree, bits) != digestOf(theirs) {
			s.addAnswer(answer{span: child, index: s.turn.children + i})
		}
		low = high
	}
	s.turn.children += n
}

// addAnswer keeps a range that differs for the own turn.
func (s *Session) addAnswer(a answer) {
	if !s.agreed() && s.hold(spanSize+len(a.low)+len(a.high)) {
		s.todo.answers = append(s.todo.answers, a)
	}
}

// takeList keeps the digests of a range for the own turn.
func (s *Session) takeList(r *wireReader, p *span, n int) {
	digests := r.bytes(n * width(s.marks.list))
	if n > listMax {
		r.fail("list too long")
	}
	number := s.turn.lists
	s.turn.lists++
	if r.err != nil || s.agreed() || !s.hold(spanSize+len(digests)) {
		return
	}
	s.todo.lists = append(s.todo.lists, listWork{span: *p, number: number, digests: bytes.Clone(digests)})
}

// agreed reports whether the roots were equal at the start, so that a frontier
// that came with them tells nothing.
func (s *Session) agreed() bool { return s.peer != nil && s.peer.agreed }

// keysOf returns the keys of a tree in order, each with the tags of all its
// facets. Both are valid during the step only.
func keysOf(t merkle.Tree) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, tags []byte) bool) {
		var key, tags []byte
		for it := range t.All() {
			if len(tags) > 0 && !bytes.Equal(it.Key, key) {
				if !yield(key, tags) {
					return
				}
				tags = tags[:0]
			}
			key, tags = append(key[:0], it.Key...), append(tags, it.Tag[:]...)
		}
		if len(tags) > 0 {
			yield(key, tags)
		}
	}
}
