package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"sort"
)

// Tree is an immutable set of items with its canonical hash. The zero value is
// the empty set; a copy is a snapshot.
type Tree struct{ items []Item }

// Apply returns the tree with the updates made. They are in strictly ascending
// order of names; Apply panics if they are not. It keeps no slice of theirs.
func (t Tree) Apply(updates []Update) Tree {
	var out []Item
	i := 0
	for j, u := range updates {
		if j > 0 && CompareNames(updates[j-1].Key, updates[j-1].Facet, u.Key, u.Facet) >= 0 {
			panic("merkle: updates are not in strictly ascending order")
		}
		for i < len(t.items) && CompareNames(t.items[i].Key, t.items[i].Facet, u.Key, u.Facet) < 0 {
			out = append(out, t.items[i])
			i++
		}
		if i < len(t.items) && CompareNames(t.items[i].Key, t.items[i].Facet, u.Key, u.Facet) == 0 {
			i++
		}
		if !u.Remove {
			out = append(out, Item{bytes.Clone(u.Key), bytes.Clone(u.Facet), u.Tag})
		}
	}
	return Tree{append(out, t.items[i:]...)}
}

// Hash returns the canonical hash H of the set.
func (t Tree) Hash() Hash { return hashOf(t.items) }

func hashOf(items []Item) Hash {
	if len(items) == 0 {
		return sha256.Sum256([]byte{domainEmpty})
	}
	if len(items) <= maxFlat {
		p := []byte{domainFlat}
		for _, it := range items {
			p = append(p, it.Tag[:]...)
		}
		return sha256.Sum256(p)
	}
	cut, _ := split(items)
	l, r := hashOf(items[:cut]), hashOf(items[cut:])
	return sha256.Sum256(append(append([]byte{domainInner}, l[:]...), r[:]...))
}

// split returns where the items part at their critical bit, and that bit.
func split(items []Item) (cut, bit int) {
	first, last := items[0], items[len(items)-1]
	bit = firstDifference(first.Key, first.Facet, last.Key, last.Facet)
	return sort.Search(len(items), func(i int) bool { return bitOf(items[i].Key, items[i].Facet, bit) == 1 }), bit
}

// Root returns the hash of the number of items and of Hash.
func (t Tree) Root() Hash {
	h := t.Hash()
	return sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte{domainRoot}, uint64(t.Len())), h[:]...))
}

// Len returns the number of items.
func (t Tree) Len() int { return len(t.items) }

// Get returns the tag of a name.
func (t Tree) Get(key, facet []byte) (Tag, bool) {
	i, ok := slices.BinarySearchFunc(t.items, Item{Key: key, Facet: facet}, func(a, b Item) int {
		return CompareNames(a.Key, a.Facet, b.Key, b.Facet)
	})
	if !ok {
		return Tag{}, false
	}
	return t.items[i].Tag, true
}

// Range returns the items with lo <= key < hi. A nil lo means from the start,
// the reserved empty key included; a nil hi means to the end.
func (t Tree) Range(lo, hi []byte) Tree {
	from := sort.Search(len(t.items), func(i int) bool { return bytes.Compare(t.items[i].Key, lo) >= 0 })
	to := len(t.items)
	if hi != nil {
		to = sort.Search(len(t.items), func(i int) bool { return bytes.Compare(t.items[i].Key, hi) >= 0 })
	}
	return Tree{t.items[from:max(from, to)]}
}

// Prefix returns the items whose key starts with p.
func (t Tree) Prefix(p []byte) Tree {
	hi := bytes.Clone(p)
	for len(hi) > 0 && hi[len(hi)-1] == 0xFF {
		hi = hi[:len(hi)-1]
	}
	if len(hi) == 0 {
		return t.Range(p, nil)
	}
	hi[len(hi)-1]++
	return t.Range(p, hi)
}

// All returns the items in order. The slices of an item are valid during its
// step only.
func (t Tree) All() iter.Seq[Item] { return slices.Values(t.items) }

// Part is one of the consecutive parts that Split made.
type Part struct {
	// Low is the shortest separator: every key of this part is >= Low, every
	// key of the parts before is < Low. It is nil with the first part.
	Low  []byte
	Tree Tree
}

// Split returns 1 to n consecutive parts of about equal size: the largest one is
// split again and again. No boundary lies inside of one key.
func (t Tree) Split(n int) []Part {
	parts := []Part{{Tree: t}}
	for len(parts) < n {
		best, bestCut, bestByte := -1, 0, 0
		for i, p := range parts {
			if p.Tree.Len() < 2 || best >= 0 && parts[best].Tree.Len() >= p.Tree.Len() {
				continue
			}
			if cut, bit := split(p.Tree.items); bit <= 9*len(p.Tree.items[0].Key) {
				best, bestCut, bestByte = i, cut, bit/9
			}
		}
		if best < 0 {
			break
		}
		items := parts[best].Tree.items
		parts[best].Tree.items = items[:bestCut]
		parts = slices.Insert(parts, best+1, Part{bytes.Clone(items[bestCut].Key[:bestByte+1]), Tree{items[bestCut:]}})
	}
	return parts
}

// Difference is a name whose tags differ; a nil tag means that the side does not
// have the name.
type Difference struct {
	Key, Facet []byte
	A, B       *Tag
}

// Diff returns what differs between two trees, in order. The slices and tags of
// a difference are valid during its step only.
func Diff(a, b Tree) iter.Seq[Difference] {
	return func(yield func(Difference) bool) {
		i, j := 0, 0
		for i < len(a.items) || j < len(b.items) {
			c := 0
			switch {
			case i == len(a.items):
				c = 1
			case j == len(b.items):
				c = -1
			default:
				c = CompareNames(a.items[i].Key, a.items[i].Facet, b.items[j].Key, b.items[j].Facet)
			}
			var d Difference
			if c <= 0 {
				d = Difference{Key: a.items[i].Key, Facet: a.items[i].Facet, A: &a.items[i].Tag}
				i++
			}
			if c >= 0 {
				d.Key, d.Facet, d.B = b.items[j].Key, b.items[j].Facet, &b.items[j].Tag
				j++
			}
			if (d.A == nil || d.B == nil || *d.A != *d.B) && !yield(d) {
				return
			}
		}
	}
}
