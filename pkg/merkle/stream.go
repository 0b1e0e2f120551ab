package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Hasher computes the root of a set whose items come one by one in ascending
// order of names, without keeping them: it holds one subtree for each critical
// bit on the way to the last item. The zero value is the empty set.
type Hasher struct {
	done  []subtree // left of the last one, by ascending bits
	last  subtree   // holds the last item; empty before the first
	tags  []byte    // of the flat subtrees, one after the other
	key   []byte    // name of the last item
	facet []byte
	n     int
}

// subtree is a finished part of the set.
type subtree struct {
	count int
	bit   int  // at which what follows parts from it
	hash  Hash // of more than maxFlat items only; tags stand for fewer
}

func (s *subtree) flat() bool { return s.count <= maxFlat }

// Add adds an item. It keeps none of its slices, and panics if the item is not
// behind the one before it.
func (h *Hasher) Add(key, facet []byte, tag Tag) {
	if h.n > 0 {
		if CompareNames(h.key, h.facet, key, facet) >= 0 {
			panic(fmt.Sprintf("merkle: item %d is not behind the one before it", h.n))
		}
		bit := firstDifference(h.key, h.facet, key, facet)
		h.joinAbove(bit)
		h.last.bit = bit
		h.done = append(h.done, h.last)
	}
	h.last = subtree{count: 1}
	h.tags = append(h.tags, tag[:]...)
	h.key, h.facet = append(h.key[:0], key...), append(h.facet[:0], facet...)
	h.n++
}

// joinAbove joins the last subtree with those from which it parts behind a bit:
// nothing will come between them any more.
func (h *Hasher) joinAbove(bit int) {
	for n := len(h.done); n > 0 && h.done[n-1].bit > bit; n = len(h.done) {
		left := h.done[n-1]
		h.done = h.done[:n-1]
		h.last = h.join(left, h.last)
	}
}

// join returns the subtree of two neighbours, the last of all.
func (h *Hasher) join(left, right subtree) subtree {
	joined := subtree{count: left.count + right.count}
	if joined.flat() {
		return joined // their tags lie side by side
	}
	r := h.take(&right)
	l := h.take(&left)
	var p [1 + 2*len(Hash{})]byte
	p[0] = domainInner
	copy(p[1:], l[:])
	copy(p[1+len(l):], r[:])
	joined.hash = sha256.Sum256(p[:])
	return joined
}

// take returns the hash of the last subtree and drops the tags that stand for it.
func (h *Hasher) take(s *subtree) Hash {
	if !s.flat() {
		return s.hash
	}
	var p [1 + maxFlat*tagLen]byte
	p[0] = domainFlat
	from := len(h.tags) - s.count*tagLen
	n := copy(p[1:], h.tags[from:])
	h.tags = h.tags[:from]
	return sha256.Sum256(p[:1+n])
}

// Len returns the number of items.
func (h *Hasher) Len() int { return h.n }

// Root returns what [Tree.Root] returns for the set of the items. The Hasher is
// then of no further use.
func (h *Hasher) Root() Hash {
	digest := emptyHash
	if h.n > 0 {
		h.joinAbove(-1)
		digest = h.take(&h.last)
	}
	p := binary.BigEndian.AppendUint64([]byte{domainRoot}, uint64(h.n))
	return sha256.Sum256(append(p, digest[:]...))
}
