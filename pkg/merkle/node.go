package merkle

import "crypto/sha256"

// node is a subtree: nil for the empty set, *bucket for up to maxFlat items,
// *inner for more. Nodes are never changed, so trees share them.
type node interface {
	hash() Hash
	size() int
	// first returns the name of the first item, in memory of the node.
	first() (key, facet []byte)
}

// inner is a subtree of more than maxFlat items. They are equal in all bits
// before bit; those with a 0 there are on the left.
type inner struct {
	digest      Hash
	left, right node
	count       int
	bit         int32
}

func (n *inner) hash() Hash { return n.digest }

func (n *inner) size() int { return n.count }

func (n *inner) first() (key, facet []byte) {
	left := n.left
	for {
		i, ok := left.(*inner)
		if !ok {
			return left.first()
		}
		left = i.left
	}
}

// join returns the subtree of two that part at a bit, either of them possibly
// empty.
func join(bit int, left, right node) node {
	if left == nil {
		return right
	}
	if right == nil {
		return left
	}
	count := left.size() + right.size()
	if count <= maxFlat {
		return flatten(left.(*bucket), right.(*bucket))
	}
	n := &inner{left: left, right: right, count: count, bit: int32(bit)}
	var p [1 + 2*len(Hash{})]byte
	l, r := left.hash(), right.hash()
	p[0] = domainInner
	copy(p[1:], l[:])
	copy(p[1+len(l):], r[:])
	n.digest = sha256.Sum256(p[:])
	return n
}

// with returns n with other children, n itself if they are the same.
func (n *inner) with(left, right node) node {
	if left == n.left && right == n.right {
		return n
	}
	return join(int(n.bit), left, right)
}

// child returns the side of n for names with that bit.
func (n *inner) child(bit int) node {
	if bit == 0 {
		return n.left
	}
	return n.right
}

// flatten returns the bucket of the items of two.
func flatten(left, right *bucket) *bucket {
	items, arena := left.load(make([]Update, 0, maxFlat), make([]byte, 0, 2048))
	items, _ = right.load(items, arena)
	return newBucket(items)
}
