package merkle

import (
	"bytes"
	"container/heap"
	"slices"
)

// Range returns the items with lo <= key < hi. A nil lo means from the start,
// the reserved empty key included; a nil hi means to the end. It costs two paths
// through the tree.
func (t Tree) Range(lo, hi []byte) Tree {
	n := t.root
	if lo != nil {
		n = trim(n, lo, true)
	}
	if hi != nil {
		n = trim(n, hi, false)
	}
	return Tree{n}
}

// Prefix returns the items whose key starts with p.
func (t Tree) Prefix(p []byte) Tree {
	// The end of the range is the least string above all that start with p.
	end := len(p)
	for end > 0 && p[end-1] == 0xFF {
		end--
	}
	if end == 0 {
		return t.Range(p, nil)
	}
	hi := bytes.Clone(p[:end])
	hi[end-1]++
	return t.Range(p, hi)
}

// trim returns the items of n with a key >= bound if high, else those with a key
// < bound.
func trim(n node, bound []byte, high bool) node {
	switch x := n.(type) {
	case *inner:
		return trimInner(x, bound, high)
	case *bucket:
		return trimBucket(x, bound, high)
	}
	return nil
}

func trimInner(n *inner, bound []byte, high bool) node {
	key, facet := n.first()
	bit := firstDifference(bound, nil, key, facet)
	outside := bit < int(n.bit)
	above := bitOf(bound, nil, min(bit, int(n.bit))) == 1
	switch {
	case outside && above == high:
		return nil
	case outside:
		return n
	case above && high:
		return trim(n.right, bound, high)
	case !above && !high:
		return trim(n.left, bound, high)
	case above:
		return n.with(n.left, trim(n.right, bound, high))
	default:
		return n.with(trim(n.left, bound, high), n.right)
	}
}

func trimBucket(b *bucket, bound []byte, high bool) node {
	items, _ := b.load(make([]Update, 0, maxFlat), make([]byte, 0, 2048))
	cut, _ := slices.BinarySearchFunc(items, bound, func(it Update, bound []byte) int {
		if bytes.Compare(it.Key, bound) < 0 {
			return -1
		}
		return 1
	})
	rest := items[:cut]
	if high {
		rest = items[cut:]
	}
	switch len(rest) {
	case 0:
		return nil
	case len(items):
		return b
	}
	return newBucket(rest)
}

// Part is one of the consecutive parts of a tree.
type Part struct {
	// Low is the shortest separator: every key of this part is >= Low, and every
	// key of the parts before it is < Low. The first part's is nil.
	Low  []byte
	Tree Tree
}

// Split returns 1 to n consecutive parts of about equal size, made by splitting
// the largest one again and again at its critical bit. No boundary lies inside
// of one key, so there are fewer parts than n when there are fewer keys.
func (t Tree) Split(n int) []Part {
	open, parts := largest{{Tree: t}}, []Part{}
	for len(open) > 0 && len(open)+len(parts) < n {
		low, left, right, ok := halve(open[0].Tree.root)
		if !ok {
			parts = append(parts, heap.Pop(&open).(Part))
			continue
		}
		open[0].Tree.root = left
		heap.Fix(&open, 0)
		heap.Push(&open, Part{low, Tree{right}})
	}
	parts = append(parts, open...)
	slices.SortFunc(parts, func(a, b Part) int { return bytes.Compare(a.Low, b.Low) })
	return parts
}

// halve splits a subtree at its critical bit and returns the shortest separator
// of the halves, false if it has less than two keys.
func halve(n node) (low []byte, left, right node, ok bool) {
	bit := 0
	switch x := n.(type) {
	case *inner:
		bit, left, right = int(x.bit), x.left, x.right
	case *bucket:
		if x.size() < 2 {
			return nil, nil, nil, false
		}
		items, _ := x.load(make([]Update, 0, maxFlat), make([]byte, 0, 2048))
		bit = criticalBit(items)
		cut := splitAt(items, bit)
		left, right = newBucket(items[:cut]), newBucket(items[cut:])
	default:
		return nil, nil, nil, false
	}
	key, _ := right.first()
	if bit > 9*len(key) {
		return nil, nil, nil, false // it parts the facets of one key
	}
	return bytes.Clone(key[:bit/9+1]), left, right, true
}

// largest is a heap of parts, the largest first, of equal ones the lowest.
type largest []Part

func (l largest) Len() int      { return len(l) }
func (l largest) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *largest) Push(p any)   { *l = append(*l, p.(Part)) }

func (l largest) Less(i, j int) bool {
	if a, b := l[i].Tree.Len(), l[j].Tree.Len(); a != b {
		return a > b
	}
	return bytes.Compare(l[i].Low, l[j].Low) < 0
}

func (l *largest) Pop() any {
	last := len(*l) - 1
	p := (*l)[last]
	*l = (*l)[:last]
	return p
}
