package merkle

import "iter"

// Difference is a name whose tags differ between two trees; a nil tag means that
// the tree does not have the name.
type Difference struct {
	Key, Facet []byte
	A, B       *Tag
}

// Diff returns what differs between two trees, in the order of names. The
// slices and tags of a difference are valid during its step only. Subtrees with
// equal hashes are skipped, so the cost grows with the number of differences
// and not with the size of the trees.
func Diff(a, b Tree) iter.Seq[Difference] {
	return func(yield func(Difference) bool) {
		d := differ{yield: yield}
		d.diff(a.root, b.root)
	}
}

// differ hands out differences.
type differ struct {
	yield func(Difference) bool
}

// diff hands out the differences of two subtrees that may lie anywhere, and
// reports whether more are wanted.
func (d *differ) diff(a, b node) bool {
	if a == nil {
		return d.only(b, false)
	}
	if b == nil {
		return d.only(a, true)
	}
	if a == b || a.hash() == b.hash() {
		return true
	}
	x, ok := a.(*inner)
	if !ok {
		return d.flat(a.(*bucket), b, true)
	}
	y, ok := b.(*inner)
	if !ok {
		return d.flat(b.(*bucket), a, false)
	}
	return d.diffInner(x, y)
}

// diffInner compares inner nodes of different shape: one may lie beside the
// other, or within one side of the other.
func (d *differ) diffInner(a, b *inner) bool {
	ak, af := a.first()
	bk, bf := b.first()
	bit := firstDifference(ak, af, bk, bf)
	switch {
	case bit < int(min(a.bit, b.bit)):
		if bitOf(ak, af, bit) == 0 {
			return d.only(a, true) && d.only(b, false)
		}
		return d.only(b, false) && d.only(a, true)
	case a.bit == b.bit:
		return d.diff(a.left, b.left) && d.diff(a.right, b.right)
	case a.bit < b.bit:
		if bitOf(bk, bf, int(a.bit)) == 0 {
			return d.diff(a.left, b) && d.only(a.right, true)
		}
		return d.only(a.left, true) && d.diff(a.right, b)
	default:
		if bitOf(ak, af, int(b.bit)) == 0 {
			return d.diff(a, b.left) && d.only(b.right, false)
		}
		return d.only(b.left, false) && d.diff(a, b.right)
	}
}

// only hands out the items of one side, a's or b's.
func (d *differ) only(n node, isA bool) bool {
	w := walker{yield: func(it Item) bool { return d.one(it.Key, it.Facet, &it.Tag, isA) }}
	return w.walk(n)
}

func (d *differ) one(key, facet []byte, tag *Tag, isA bool) bool {
	if isA {
		return d.yield(Difference{Key: key, Facet: facet, A: tag})
	}
	return d.yield(Difference{Key: key, Facet: facet, B: tag})
}

// flat compares a bucket, of side a if isA, with any subtree of the other side,
// item by item: an inner node has more items than a bucket can share with it.
func (d *differ) flat(few *bucket, many node, isA bool) bool {
	items, _ := few.load(make([]Update, 0, maxFlat), make([]byte, 0, 2048))
	w := walker{yield: func(it Item) bool {
		for len(items) > 0 {
			f := &items[0]
			c := CompareNames(f.Key, f.Facet, it.Key, it.Facet)
			if c > 0 {
				break
			}
			items = items[1:]
			if c < 0 {
				if !d.one(f.Key, f.Facet, &f.Tag, isA) {
					return false
				}
				continue
			}
			return f.Tag == it.Tag || d.pair(f, &it.Tag, isA)
		}
		return d.one(it.Key, it.Facet, &it.Tag, !isA)
	}}
	if !w.walk(many) {
		return false
	}
	for i := range items {
		if !d.one(items[i].Key, items[i].Facet, &items[i].Tag, isA) {
			return false
		}
	}
	return true
}

func (d *differ) pair(f *Update, other *Tag, isA bool) bool {
	if isA {
		return d.yield(Difference{f.Key, f.Facet, &f.Tag, other})
	}
	return d.yield(Difference{f.Key, f.Facet, other, &f.Tag})
}
