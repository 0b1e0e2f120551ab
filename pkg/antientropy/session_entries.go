package antientropy

import (
	"bytes"

	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// entryGroup collects what a turn brings of one key, which may lie in several
// frames.
type entryGroup struct {
	open     bool
	push     bool // else given
	key      []byte
	have     []shown // what the peer holds of it
	applied  bool
	deferred bool
	lost     bool
	later    bool // something is of a later epoch than the session
}

// takeEntries merges entries.
func (s *Session) takeEntries(push bool, payload []byte) error {
	if s.opts.Mode == Verify {
		return malformed("entries in a verification")
	}
	changes, err := protocol.DecodeEntries(payload, 0, 0)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return malformed("frame without entries")
	}
	for i := range changes {
		c := &changes[i]
		if c.Stub || !s.isDisputed(c.Entry.Key) {
			return malformed("entry of a key that does not differ")
		}
		c.Seq = 0 // nobody's place is taken by a repair
		s.merge(push, &c.Change)
	}
	return nil
}

// merge applies one entry.
func (s *Session) merge(push bool, c *kv.Change) {
	g := &s.group
	if !g.open || g.push != push || !bytes.Equal(g.key, c.Entry.Key) {
		s.closeGroup()
		*g = entryGroup{open: true, push: push, key: append(g.key[:0], c.Entry.Key...), have: g.have[:0]}
	}
	switch s.opts.Replica.Apply(c) {
	case kv.Applied:
		s.own.applied++
		g.applied = true
	case kv.Deferred:
		s.own.deferred++
		g.deferred = true
	case kv.Lost:
		g.lost = true
	}
	g.later = g.later || s.isLater(c.Entry.Version)
	if len(g.have) < maxGroup {
		g.have = append(g.have, s.showOne(&c.Entry))
	}
}

// closeGroup judges a key of which all was received.
func (s *Session) closeGroup() {
	g := &s.group
	if !g.open {
		return
	}
	g.open = false
	s.sample(g.key)
	more := false
	if g.push {
		s.own.differing++
		s.settle(g.key)
		more = s.replyTo(g.key, g.have)
	}
	if !g.push && g.lost && !s.finishing() { // it was thought to be the same, or written since
		more = s.replyTo(g.key, g.have)
	}
	if !g.applied && !g.deferred && !more {
		s.own.moot++
	}
	if g.later {
		s.own.excused++
	}
}

// isLater reports whether a version is beyond what the roots of this session
// cover: merging it leaves them as they are.
func (s *Session) isLater(v kv.Version) bool { return s.opts.Epoch > 0 && v.Epoch() > s.opts.Epoch }

// replyTo gives what is held of a key and beats what the peer showed, in the own
// turn, and reports whether there is anything.
func (s *Session) replyTo(key []byte, have []shown) bool {
	entries := s.entries(key)
	for i := range entries {
		if s.beats(&entries[i], have) {
			s.keepReply(key, have)
			return true
		}
	}
	return false
}

func (s *Session) keepReply(key []byte, have []shown) {
	size := spanSize + len(key)
	for i := range have {
		size += spanSize + len(have[i].facet)
	}
	if !s.hold(size) {
		return
	}
	copies := make([]shown, len(have))
	for i, f := range have {
		f.facet = bytes.Clone(f.facet)
		copies[i] = f
	}
	s.todo.replies = append(s.todo.replies, reply{bytes.Clone(key), copies})
}

// beats reports whether e is more than what is shown of its facet.
func (s *Session) beats(e *kv.Entry, have []shown) bool {
	for i := range have {
		if h := &have[i]; bytes.Equal(h.facet, e.Facet) {
			c := e.Version.Compare(h.version)
			return c > 0 || c == 0 && s.marks.check(e) != h.check
		}
	}
	return true
}

// show returns what the peer is told of entries. The facets are the entries'.
func (s *Session) show(entries []kv.Entry) []shown {
	facets := make([]shown, len(entries))
	for i := range entries {
		facets[i] = s.showOne(&entries[i])
	}
	return facets
}

func (s *Session) showOne(e *kv.Entry) shown {
	return shown{facet: e.Facet, version: e.Version, check: s.marks.check(e)}
}
