package antientropy

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/dchest/siphash"

	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

const (
	pushInline = 1024 // bytes of a key's entries that are sent unasked
	stepKeys   = 256  // keys of a range looked at in one step
	spanSize   = 96   // bytes that a kept range takes, beside its bounds
	maxGroup   = 1 << 14
)

// list is a range that this side described by digests.
type list struct {
	span
	keys int
}

// sessionTodo is what the peer's last turn asks this side to say.
type sessionTodo struct {
	held     int // bytes kept here
	answers  []answer
	lists    []listWork
	wants    []wantWork
	requests [][]byte // keys to ask for
	serve    [][]byte // keys that the peer asked for
	replies  []reply  // keys of which newer entries are held here
	whole    []wholeWork
}

// listWork is a list of the peer's, and how far it was compared.
type listWork struct {
	span
	number  int    // among the peer's lists of the turn
	digests []byte // of the peer's keys, in order
	matched []bool // nil before the first step
	next    int    // where the next match is likely
}

// wantWork is what the peer wants of a list of this side's.
type wantWork struct {
	span
	positions []byte // bitmap of positions
}

// reply is a key of which this side holds more than the peer showed.
type reply struct {
	key  []byte
	have []shown
}

// left reports whether something was not dealt with.
func (t *sessionTodo) left() bool {
	return len(t.answers)+len(t.lists)+len(t.wants)+len(t.requests)+len(t.serve)+len(t.replies)+len(t.whole) > 0
}

// hold takes n bytes to keep something for the own turn. Without room it is left
// to the next session.
func (s *Session) hold(n int) bool {
	if s.todo.held += n; s.todo.held > s.bounds.held {
		s.result.Partial = true
		return false
	}
	return true
}

// first takes the first element of a queue.
func first[T any](queue *[]T) (x T) {
	x, *queue = (*queue)[0], (*queue)[1:]
	return x
}

// step does one small piece of what there is to say, and reports whether there
// was one.
func (s *Session) step() bool {
	switch t := &s.todo; {
	case len(t.answers) > 0:
		a := first(&t.answers)
		s.describe(&a)
	case len(t.lists) > 0:
		if s.compareList(&t.lists[0]) {
			first(&t.lists)
		}
	case len(t.requests) > 0:
		s.out.addRequest(first(&t.requests))
	case len(t.wants) > 0:
		w := first(&t.wants)
		s.giveWanted(&w)
	case len(t.serve) > 0:
		s.out.addEntries(protocol.FrameGive, s.entries(first(&t.serve)))
	case len(t.replies) > 0:
		s.giveReply(first(&t.replies))
	case len(t.whole) > 0:
		if s.pushUnnamed(&t.whole[0]) {
			first(&t.whole)
		}
	case s.rest != nil && s.turn.named < maxNamed:
		s.nameRest()
	default:
		return false
	}
	return true
}

// entries returns all that is held of a key, facets in order.
func (s *Session) entries(key []byte) []kv.Entry {
	entries := s.opts.Replica.Entries(nil, key)
	slices.SortFunc(entries, func(a, b kv.Entry) int { return bytes.Compare(a.Facet, b.Facet) })
	return entries
}

// compareList goes on comparing a list with what is held in its range, and
// reports whether it is at the end. Keys that the peer lacks, or holds
// differently, are pushed; what is not held here is wanted.
func (s *Session) compareList(w *listWork) bool {
	size := width(s.marks.list)
	if w.matched == nil {
		w.matched = make([]bool, len(w.digests)/size)
		if !s.dispute(w.span) {
			return true
		}
	}
	seen := 0
	for key, tags := range keysOf(w.tree) {
		if seen++; seen > stepKeys {
			w.tree = w.tree.Range(bytes.Clone(key), nil)
			return false
		}
		if !w.match(s.marks.digest(tags), size) {
			s.push(key)
		}
	}
	s.want(w)
	return true
}

// match marks the peer's key with a digest, if there is one.
func (w *listWork) match(digest uint64, size int) bool {
	found, n := false, len(w.matched)
	for i := range n {
		at := (w.next + i) % n
		if digestOf(w.digests[at*size:at*size+size]) != digest {
			continue
		}
		if found = true; !w.matched[at] {
			w.matched[at], w.next = true, at+1
			break
		}
	}
	return found
}

// want asks for the keys of a list that were not matched: by their positions, or
// by a bitmap where that is shorter.
func (s *Session) want(w *listWork) {
	bitmap, gaps := make([]byte, (len(w.matched)+7)/8), []byte(nil)
	n, next := uint64(0), 0
	for i, matched := range w.matched {
		if !matched {
			bitmap[i/8] |= 1 << (i % 8)
			gaps = binary.AppendUvarint(gaps, uint64(i-next))
			next = i + 1
			n++
		}
	}
	if n == 0 {
		return
	}
	item := binary.AppendUvarint(nil, uint64(w.number-s.out.nextWant))
	if len(bitmap) < len(gaps) {
		item = append(append(item, 1), bitmap...)
	} else {
		item = append(binary.AppendUvarint(item, n<<1), gaps...)
	}
	if len(s.out.wants)+len(item) > protocol.SyncFrameSize {
		s.out.seal(protocol.FrameWants, &s.out.wants)
	}
	s.out.wants = append(s.out.wants, item...)
	s.out.nextWant = w.number + 1
}

// push sends what is held of a key that the peer lacks or holds differently:
// the entries while they are small, else only their versions.
func (s *Session) push(key []byte) {
	s.sample(key)
	entries := s.entries(key)
	size := 0
	for i := range entries {
		size += protocol.ChangeSize(&kv.Change{Entry: entries[i]})
	}
	facets := s.show(entries)
	switch {
	case len(entries) == 0: // collected since
		s.own.excused++
	case s.opts.Mode == Verify:
		s.tell(offerKey, key, facets)
	case size > pushInline && offerSize(key, facets) <= maxItem:
		s.out.addOffer(offerKey, key, facets)
	default:
		s.out.addEntries(protocol.FramePush, entries)
	}
}

// tell shows a key's versions in a verification, unless they are too many for a
// frame.
func (s *Session) tell(kind byte, key []byte, facets []shown) {
	if offerSize(key, facets) > maxItem {
		s.result.Partial = true
		return
	}
	s.out.addOffer(kind, key, facets)
}

// takeWants reads which keys of its own lists this side is to give.
func (s *Session) takeWants(payload []byte) error {
	r := wireReader{b: payload}
	for r.more() {
		index := s.turn.nextWant + int(r.upTo(maxTurnSpans))
		if index >= len(s.lists) {
			return malformed("want of list %d of %d", index, len(s.lists))
		}
		s.turn.nextWant = index + 1
		l := &s.lists[index]
		bitmap := make([]byte, (l.keys+7)/8)
		r.positions(bitmap, l.keys)
		if s.hold(spanSize + len(bitmap)) {
			s.todo.wants = append(s.todo.wants, wantWork{l.span, bitmap})
		}
	}
	return r.end("wants")
}

// positions reads the positions of one list of n keys into a bitmap.
func (r *wireReader) positions(bitmap []byte, n int) {
	count := r.upTo(uint64(2 * n))
	if count == 1 {
		copy(bitmap, r.bytes(len(bitmap)))
		return
	}
	if count&1 != 0 {
		r.fail("unknown kind of want")
	}
	next := 0
	for range count >> 1 {
		i := next + int(r.upTo(listMax))
		if i >= n {
			r.fail("want beyond the end of a list")
			return
		}
		bitmap[i/8] |= 1 << (i % 8)
		next = i + 1
	}
}

// giveWanted sends the wanted keys of a list, less those that a push or an offer
// of the same turn dealt with.
func (s *Session) giveWanted(w *wantWork) {
	i := -1
	for key := range keysOf(w.tree) {
		if i++; i/8 >= len(w.positions) || w.positions[i/8]&(1<<(i%8)) == 0 || s.isSettled(key) {
			continue
		}
		s.sample(key)
		entries := s.entries(key)
		if s.opts.Mode == Verify && len(entries) > 0 {
			s.tell(offerKey, key, s.show(entries)) // the other side counts it
			continue
		}
		if s.own.differing++; len(entries) == 0 {
			s.own.excused++
		}
		s.out.addEntries(protocol.FrameGive, entries)
	}
}

// giveReply sends what the peer showed to lack of a key.
func (s *Session) giveReply(p reply) {
	entries := s.entries(p.key)
	if s.opts.Mode == Verify {
		s.tell(offerTell, p.key, s.show(entries))
		return
	}
	s.out.addEntries(protocol.FrameGive, slices.DeleteFunc(entries, func(e kv.Entry) bool {
		return !s.beats(&e, p.have)
	}))
}

// settle remembers that a key of an own list was dealt with.
func (s *Session) settle(key []byte) {
	if len(s.settled) < maxSettled {
		s.settled[s.nameOf(key)] = struct{}{}
	}
}

func (s *Session) isSettled(key []byte) bool {
	_, ok := s.settled[s.nameOf(key)]
	return ok
}

func (s *Session) nameOf(key []byte) uint64 {
	return siphash.Hash(s.marks.keyKey[0], s.marks.keyKey[1], key)
}

// sample remembers a key that differs.
func (s *Session) sample(key []byte) {
	known := func(k []byte) bool { return bytes.Equal(k, key) }
	if r := &s.result; len(r.Sample) < maxSample && !slices.ContainsFunc(r.Sample, known) {
		r.Sample = append(r.Sample, bytes.Clone(key))
	}
}

// dispute notes a range whose keys may be sent from now on, if there is room for
// it. Ranges of one kind and turn come in order.
func (s *Session) dispute(p span) bool {
	if s.disputes += spanSize + len(p.low) + len(p.high); s.disputes > s.bounds.held {
		s.result.Partial = true
		return false
	}
	p.tree = merkle.Tree{}
	n := len(s.disputed) - 1
	if n < 0 || bytes.Compare(p.low, s.disputed[n][len(s.disputed[n])-1].low) <= 0 {
		s.disputed = append(s.disputed, nil)
		n++
	}
	s.disputed[n] = append(s.disputed[n], p)
	return true
}

// isDisputed reports whether a key lies in a range whose keys are exchanged.
func (s *Session) isDisputed(key []byte) bool {
	for _, spans := range s.disputed {
		i := sort.Search(len(spans), func(i int) bool { return bytes.Compare(spans[i].low, key) > 0 })
		if i > 0 && spans[i-1].contains(key) {
			return true
		}
	}
	return false
}
