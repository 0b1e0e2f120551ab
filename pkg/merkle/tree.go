package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
)

// Tree is an immutable set of items with its canonical hash. The zero value is
// the empty set. A copy is a snapshot; it shares memory with its origin and
// keeps that memory alive. Any number of goroutines may read a tree.
type Tree struct{ root node }

// emptyHash is the hash of the empty set.
var emptyHash = Hash(sha256.Sum256([]byte{domainEmpty}))

// Len returns the number of items.
func (t Tree) Len() int {
	if t.root == nil {
		return 0
	}
	return t.root.size()
}

// Hash returns the canonical hash H of the set. It is stored, not computed.
func (t Tree) Hash() Hash {
	if t.root == nil {
		return emptyHash
	}
	return t.root.hash()
}

// Root returns the SHA-256 of 0x04, the number of items as a big-endian u64, and
// Hash: what nodes compare.
func (t Tree) Root() Hash {
	h := t.Hash()
	p := binary.BigEndian.AppendUint64([]byte{domainRoot}, uint64(t.Len()))
	return sha256.Sum256(append(p, h[:]...))
}

// Get returns the tag of a name, and whether the tree has the name.
func (t Tree) Get(key, facet []byte) (Tag, bool) {
	n := t.root
	for {
		switch x := n.(type) {
		case *inner:
			n = x.child(bitOf(key, facet, int(x.bit)))
		case *bucket:
			return x.find(key, facet)
		default:
			return Tag{}, false
		}
	}
}

// All returns the items in order. The slices of an item are valid during its
// step only.
func (t Tree) All() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		w := walker{yield: yield}
		w.walk(t.root)
	}
}

// walker hands out items, their names in buffers of its own.
type walker struct {
	yield      func(Item) bool
	key, facet []byte
}

// walk hands out the items of n and reports whether more are wanted.
func (w *walker) walk(n node) bool {
	switch x := n.(type) {
	case *inner:
		return w.walk(x.left) && w.walk(x.right)
	case *bucket:
		return w.walkBucket(x)
	}
	return true
}

func (w *walker) walkBucket(b *bucket) bool {
	r, n := b.reader(), b.size()
	for i := 0; ; {
		w.key = append(append(w.key[:0], r.prefix...), r.rest...)
		w.facet = append(w.facet[:0], r.facet...)
		if !w.yield(Item{w.key, w.facet, b.tag(i)}) {
			return false
		}
		if i++; i == n {
			return true
		}
		r.next()
	}
}
