package antientropy

import (
	"bytes"
	"encoding/binary"
	"slices"

	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// Kinds of offers.
const (
	offerKey   = 0 // answer what you lack and what you have more
	offerTell  = 1 // the answer to an offer or a want in a verification
	offerWhole = 2 // these are all the keys of a range
)

// maxNamed bounds the frames of a turn that name whole ranges.
const maxNamed = 16

// wholeWork is a range of which the peer named all its keys.
type wholeWork struct {
	span
	named [][]byte // in order
}

// offerSize returns an upper bound of what appendOffer appends, in bytes.
func offerSize(key []byte, facets []shown) int {
	n := len(key) + 16
	for i := range facets {
		n += len(facets[i].facet) + minShown + 1
	}
	return n
}

// nameRest names the next keys of the own tree in a frame, with all their
// versions. A key with too many facets for that is pushed.
func (s *Session) nameRest() {
	frame := binary.AppendUvarint([]byte{offerWhole}, uint64(len(s.rest.low)))
	frame = append(frame, s.rest.low...)
	var items, prev, high []byte
	for key := range keysOf(s.rest.tree) {
		entries := s.entries(key)
		facets := s.show(entries)
		size := offerSize(key, facets)
		if len(items)+size > maxItem && size <= maxItem {
			high = bytes.Clone(key)
			break
		}
		switch {
		case len(entries) == 0:
		case size > maxItem:
			s.out.addEntries(protocol.FramePush, entries)
		default:
			items = appendOffer(items, prev, key, facets)
			prev = append(prev[:0], key...)
		}
	}
	frame = binary.AppendUvarint(frame, uint64(len(high)))
	frame = append(append(frame, high...), items...)
	s.out.ready = append(s.out.ready, outFrame{protocol.FrameOffers, frame})
	s.turn.named++
	if high == nil {
		s.rest = nil
		return
	}
	s.rest.low, s.rest.tree = high, s.rest.tree.Range(high, nil)
}

// takeOffers compares what the peer shows of keys with what is held of them.
func (s *Session) takeOffers(payload []byte) error {
	r := wireReader{b: payload}
	kind := r.byte()
	var w wholeWork
	switch {
	case kind > offerWhole, kind == offerTell && s.opts.Mode != Verify, (kind == offerWhole) != (s.opts.Mode == Full):
		r.fail("offer of a kind that does not belong here")
	case kind == offerWhole:
		w = s.takeBounds(&r)
	}
	var key []byte
	var facets []shown
	for n := 0; r.more(); n++ {
		last := bytes.Clone(key)
		key = r.name(key)
		facets = r.offer(facets[:0], 1-int(kind&offerTell))
		if n > 0 && bytes.Compare(last, key) >= 0 && kind == offerWhole {
			r.fail("names out of order")
		}
		if kind == offerWhole && !w.contains(key) || !s.isDisputed(key) {
			r.fail("offer of a key that does not differ")
		}
		if r.err != nil {
			break
		}
		s.compareOffer(kind, key, facets)
		if kind == offerWhole && s.hold(spanSize+len(key)) {
			w.named = append(w.named, bytes.Clone(key))
		}
	}
	if kind == offerWhole && r.err == nil && s.hold(spanSize) {
		s.todo.whole = append(s.todo.whole, w)
	}
	return r.end("offers")
}

// takeBounds reads the range that a frame of names is whole for.
func (s *Session) takeBounds(r *wireReader) (w wholeWork) {
	if s.turn.named++; s.opts.Initiator || s.turn.named > maxNamed {
		r.fail("names of too many ranges")
	}
	bound := func() []byte {
		if b := r.bytes(int(r.upTo(kv.MaxKeyLen))); len(b) > 0 {
			return bytes.Clone(b)
		}
		return nil
	}
	w.low, w.high = bound(), bound()
	if !bytes.Equal(w.low, s.whole) || w.high != nil && bytes.Compare(w.low, w.high) >= 0 || s.wholeDone {
		r.fail("ranges out of order")
	}
	s.whole, s.wholeDone = w.high, w.high == nil
	w.tree = s.opts.Tree.Range(w.low, w.high)
	return w
}

// pushUnnamed goes on sending what is held in a range and was not named, and
// reports whether it is at the end.
func (s *Session) pushUnnamed(w *wholeWork) bool {
	seen := 0
	for key := range keysOf(w.tree) {
		if seen++; seen > stepKeys {
			w.tree = w.tree.Range(bytes.Clone(key), nil)
			return false
		}
		for len(w.named) > 0 && bytes.Compare(w.named[0], key) < 0 {
			w.named = w.named[1:]
		}
		if (len(w.named) == 0 || !bytes.Equal(w.named[0], key)) && !s.isSettled(key) {
			s.out.addEntries(protocol.FramePush, s.entries(key))
		}
	}
	return true
}

// compareOffer deals with one key that the peer shows: asks for it, gives what
// is more here, or in a verification notes the differences.
func (s *Session) compareOffer(kind byte, key []byte, facets []shown) {
	entries := s.entries(key)
	lacks, more := s.compareShown(key, entries, facets)
	if kind != offerTell {
		s.settle(key)
		if kind == offerKey || lacks || more {
			s.own.differing++
		}
	}
	if slices.ContainsFunc(facets, func(f shown) bool { return s.isLater(f.version) }) {
		s.own.excused++
	}
	switch {
	case !lacks && !more:
		if kind == offerKey {
			s.own.moot++
		}
		return
	case kind == offerTell:
		return
	}
	s.sample(key)
	if s.opts.Mode == Verify {
		s.keepReply(key, nil)
		return
	}
	if lacks && s.hold(spanSize+len(key)) {
		s.todo.requests = append(s.todo.requests, bytes.Clone(key))
	}
	if more {
		s.keepReply(key, facets)
	}
}

// compareShown reports whether the peer shows more of a key than is held, and
// whether more is held than it shows. A verification notes each difference.
func (s *Session) compareShown(key []byte, entries []kv.Entry, facets []shown) (lacks, more bool) {
	for i := range entries {
		e := &entries[i]
		at := slices.IndexFunc(facets, func(f shown) bool { return bytes.Equal(f.facet, e.Facet) })
		if at < 0 {
			more = true
			s.differ(key, e.Facet, e.Version, kv.Version{})
			continue
		}
		f := &facets[at]
		c := e.Version.Compare(f.version)
		same := c == 0 && s.marks.check(e) == f.check
		lacks, more = lacks || c < 0 || c == 0 && !same, more || c > 0 || c == 0 && !same
		if !same {
			s.differ(key, e.Facet, e.Version, f.version)
		}
	}
	for _, f := range facets {
		if !slices.ContainsFunc(entries, func(e kv.Entry) bool { return bytes.Equal(f.facet, e.Facet) }) {
			lacks = true
			s.differ(key, f.facet, kv.Version{}, f.version)
		}
	}
	return lacks, more
}

// differ notes a difference that a verification found.
func (s *Session) differ(key, facet []byte, here, there kv.Version) {
	if s.opts.Mode != Verify {
		return
	}
	r := &s.result
	if r.DifferenceCount++; len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, Difference{bytes.Clone(key), bytes.Clone(facet), here, there})
	}
}

// takeRequests keeps the keys that the peer asks for.
func (s *Session) takeRequests(payload []byte) error {
	if s.opts.Mode == Verify {
		return malformed("requests in a verification")
	}
	r := wireReader{b: payload}
	var key []byte
	for r.more() {
		if key = r.name(key); !s.isDisputed(key) {
			r.fail("request of a key that does not differ")
		}
		if r.err == nil && s.hold(spanSize+len(key)) {
			s.todo.serve = append(s.todo.serve, bytes.Clone(key))
		}
	}
	return r.end("requests")
}
