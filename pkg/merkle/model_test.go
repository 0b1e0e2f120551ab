package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sort"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// model is the set as a sorted slice, and the hash of it as its definition says:
// what the tree must agree with.
type model []Item

func (m model) hash() Hash {
	bits := make([]string, len(m))
	for i, it := range m {
		bits[i] = bitString(it)
	}
	return m.hashOf(bits)
}

func (m model) hashOf(bits []string) Hash {
	if len(m) == 0 {
		return sha256.Sum256([]byte{3})
	}
	if len(m) <= 32 {
		p := []byte{1}
		for _, it := range m {
			p = append(p, it.Tag[:]...)
		}
		return sha256.Sum256(p)
	}
	low, high, bit := bits[0], bits[len(bits)-1], 0
	for low[bit] == high[bit] {
		bit++
	}
	cut := sort.Search(len(m), func(i int) bool { return bits[i][bit] == '1' })
	l, r := m[:cut].hashOf(bits[:cut]), m[cut:].hashOf(bits[cut:])
	return sha256.Sum256(append(append([]byte{2}, l[:]...), r[:]...))
}

// bitString writes the bits of a name as text.
func bitString(it Item) string {
	var s []byte
	for _, part := range [][]byte{it.Key, it.Facet} {
		for _, b := range part {
			s = append(s, '1')
			for i := 7; i >= 0; i-- {
				s = append(s, '0'+b>>i&1)
			}
		}
		s = append(s, '0')
	}
	return string(s)
}

func (m model) root() Hash {
	h := m.hash()
	return sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte{4}, uint64(len(m))), h[:]...))
}

func compareItems(a, b Item) int { return CompareNames(a.Key, a.Facet, b.Key, b.Facet) }

func (m model) apply(updates []Update) model {
	out := slices.Clone(m)
	for _, u := range updates {
		it := Item{u.Key, u.Facet, u.Tag}
		i, ok := slices.BinarySearchFunc(out, it, compareItems)
		switch {
		case ok && u.Remove:
			out = slices.Delete(out, i, i+1)
		case ok:
			out[i] = it
		case !u.Remove:
			out = slices.Insert(out, i, it)
		}
	}
	return out
}

func (m model) filter(keep func(key []byte) bool) model {
	return slices.DeleteFunc(slices.Clone(m), func(it Item) bool { return !keep(it.Key) })
}

// difference is a Difference that outlives its step.
type difference struct {
	key, facet   string
	a, b         Tag
	onlyA, onlyB bool
}

func (m model) diff(o model) (out []difference) {
	for _, it := range m {
		i, ok := slices.BinarySearchFunc(o, it, compareItems)
		if !ok {
			out = append(out, difference{key: string(it.Key), facet: string(it.Facet), a: it.Tag, onlyA: true})
		} else if o[i].Tag != it.Tag {
			out = append(out, difference{key: string(it.Key), facet: string(it.Facet), a: it.Tag, b: o[i].Tag})
		}
	}
	for _, it := range o {
		if _, ok := slices.BinarySearchFunc(m, it, compareItems); !ok {
			out = append(out, difference{key: string(it.Key), facet: string(it.Facet), b: it.Tag, onlyB: true})
		}
	}
	slices.SortFunc(out, func(a, b difference) int {
		return CompareNames([]byte(a.key), []byte(a.facet), []byte(b.key), []byte(b.facet))
	})
	return out
}

// updates returns the additions that make the set from nothing.
func (m model) updates() []Update {
	out := make([]Update, len(m))
	for i, it := range m {
		out[i] = Update{Key: it.Key, Facet: it.Facet, Tag: it.Tag}
	}
	return out
}

// ordered sorts updates, and of several for one name keeps the last.
func ordered(u []Update) []Update {
	slices.Reverse(u)
	compare := func(a, b Update) int { return CompareNames(a.Key, a.Facet, b.Key, b.Facet) }
	slices.SortStableFunc(u, compare)
	return slices.CompactFunc(u, func(a, b Update) bool { return compare(a, b) == 0 })
}

func collect(t Tree) (m model) {
	for it := range t.All() {
		m = append(m, Item{bytes.Clone(it.Key), bytes.Clone(it.Facet), it.Tag})
	}
	return m
}

func collectDiff(a, b Tree) (out []difference) {
	for d := range Diff(a, b) {
		x := difference{key: string(d.Key), facet: string(d.Facet), onlyA: d.B == nil, onlyB: d.A == nil}
		if d.A != nil {
			x.a = *d.A
		}
		if d.B != nil {
			x.b = *d.B
		}
		out = append(out, x)
	}
	return out
}

// tagOf returns the tag of version n of a name. Like a real one it tells the
// name, which the tree relies on.
func tagOf(key, facet []byte, n int) Tag {
	return TagOf(&kv.Entry{Key: key, Facet: facet, Version: kv.Version{HLC: hlc.Timestamp(n), Instance: 1}})
}

// check compares everything that a tree says with the model, and its shape with
// the canonical one.
func check(t fataler, tree Tree, m model) {
	t.Helper()
	if tree.Len() != len(m) {
		t.Fatalf("%d items, want %d", tree.Len(), len(m))
	}
	if tree.Hash() != m.hash() || tree.Root() != m.root() {
		t.Fatalf("wrong hash of %d items: %q", len(m), m)
	}
	if got := collect(tree); !slices.EqualFunc(got, m, func(a, b Item) bool { return compareItems(a, b) == 0 && a.Tag == b.Tag }) {
		t.Fatalf("items %q, want %q", got, m)
	}
	checkShape(t, tree.root)
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkShape checks that a node is inner exactly if it has more than maxFlat
// items, and that counts and hashes are those of the children.
func checkShape(t fataler, n node) {
	t.Helper()
	x, ok := n.(*inner)
	if !ok {
		return
	}
	if x.count <= maxFlat || x.count != x.left.size()+x.right.size() {
		t.Fatalf("inner node of %d with %d and %d", x.count, x.left.size(), x.right.size())
	}
	checkShape(t, x.left)
	checkShape(t, x.right)
}
