package server

import (
	"strconv"

	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// A scan by pages returns defaultCount keys where no COUNT says otherwise, and
// takes a COUNT of maxCount at most.
const (
	defaultCount = 1000
	maxCount     = 100_000
)

// A cursor is cursorStart, or cursorMark followed by the escaped last key of the
// page before. cursorEnd is only ever sent.
const (
	cursorStart = "0"
	cursorEnd   = "END"
	cursorMark  = '>'
)

// page is what a SCAN asks for.
type page struct {
	prefix []byte
	after  []byte // nil for the start
	limit  int    // 0 for all
}

func (s *session) scan(args [][]byte) protocol.Reply {
	p, ok := parsePage(args)
	if !ok {
		return protocol.ErrorReply(protocol.ErrInvalidArgument)
	}
	if !s.afford(int64(s.most(p)) * keyCost) {
		return protocol.Reply{}
	}
	keys, more := s.env.store.Scan(p.prefix, p.after, p.limit)
	if s.claim.bytes.Load() > 0 {
		s.env.replies.resize(&s.claim, listSize(keys))
	}
	r := protocol.Reply{Kind: protocol.List, Int: int64(len(keys)), Elements: &keyList{keys: keys}}
	switch {
	case p.limit == 0:
	case more && len(keys) > 0:
		r.Bulk = protocol.AppendEscaped([]byte{cursorMark}, keys[len(keys)-1])
	default:
		r.Bulk = []byte(cursorEnd)
	}
	return r
}

// keyCost is what a key of a listing is taken to cost before it is known, in
// bytes.
const keyCost = 128

// most is the greatest number of keys that a page can have.
func (s *session) most(p page) int {
	n := s.env.store.Len()
	if p.limit > 0 {
		n = min(n, p.limit)
	}
	return n
}

// listSize is what the keys of a listing take, in bytes.
func listSize(keys [][]byte) int64 {
	n := int64(len(keys)) * 24 // a slice's header
	for _, k := range keys {
		n += int64(len(k))
	}
	return n
}

// parsePage reads SCAN's arguments. Options are pairs of words, so an odd number
// of arguments begins with a prefix and an even one does not.
func parsePage(args [][]byte) (p page, ok bool) {
	if len(args)%2 == 1 {
		p.prefix, args = args[0], args[1:]
	}
	if len(args) > 0 {
		p.limit = defaultCount
	}
	var cursor, count bool
	for ; len(args) > 0; args = args[2:] {
		switch {
		case protocol.IsWord(args[0], "CURSOR") && !cursor:
			cursor = true
			p.after, ok = parseCursor(args[1])
		case protocol.IsWord(args[0], "COUNT") && !count:
			count = true
			p.limit, ok = parseCount(args[1])
		default:
			ok = false
		}
		if !ok {
			return page{}, false
		}
	}
	return p, true
}

func parseCursor(text []byte) (after []byte, ok bool) {
	if string(text) == cursorStart {
		return nil, true
	}
	if len(text) < 2 || text[0] != cursorMark || len(text) > 1+3*kv.MaxKeyLen {
		return nil, false
	}
	return protocol.Unescape(text[1:])
}

func parseCount(text []byte) (n int, ok bool) {
	n, err := strconv.Atoi(string(text))
	return n, err == nil && n >= 1 && n <= maxCount
}

// keyList yields keys and lets go of those that it has yielded.
type keyList struct{ keys [][]byte }

func (k *keyList) Next(r *protocol.Reply) bool {
	if len(k.keys) == 0 {
		return false
	}
	*r = protocol.Reply{Kind: protocol.Key, Bulk: k.keys[0]}
	k.keys[0] = nil
	k.keys = k.keys[1:]
	return true
}
