package merkle

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// forkSize is the number of updates on both sides of a node from which on the
// sides are worth a goroutine each.
const forkSize = 4096

// Apply returns the tree with the updates made. They are in strictly ascending
// order of names ([CompareNames]); Apply panics if they are not. It keeps none
// of their slices. Subtrees that the updates do not change are shared with t;
// setting the tag that a name has, or removing a name that is not there, changes
// nothing.
//
// Large batches use several goroutines, at most GOMAXPROCS; all have ended when
// Apply returns.
func (t Tree) Apply(updates []Update) Tree {
	for i := 1; i < len(updates); i++ {
		a, b := &updates[i-1], &updates[i]
		if CompareNames(a.Key, a.Facet, b.Key, b.Facet) >= 0 {
			panic(fmt.Sprintf("merkle: update %d is not behind the one before it", i))
		}
	}
	a := applier{places: make(chan struct{}, runtime.GOMAXPROCS(0)-1)}
	return Tree{a.apply(t.root, updates)}
}

// applier makes updates. Each goroutine has its own, with its own buffers.
type applier struct {
	places chan struct{} // one element for each further goroutine that runs
	items  []Update
	arena  []byte
	merged []Update
}

// both returns what two functions return, run at the same time if there are
// enough updates for each of them.
func (a *applier) both(fewer int, left, right func(*applier) node) (l, r node) {
	if fewer < forkSize {
		return left(a), right(a)
	}
	select {
	case a.places <- struct{}{}:
	default:
		return left(a), right(a)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		l = left(&applier{places: a.places})
		<-a.places
	})
	r = right(a)
	wg.Wait()
	return l, r
}

// apply returns n with the updates made, n itself if they change nothing.
func (a *applier) apply(n node, u []Update) node {
	if len(u) == 0 {
		return n
	}
	switch x := n.(type) {
	case *inner:
		if len(u) == 1 {
			key, facet := x.nearest(&u[0]).first()
			return a.applyOne(x, u, firstDifference(u[0].Key, u[0].Facet, key, facet))
		}
		key, facet := x.first()
		return a.applyInner(x, key, facet, u)
	case *bucket:
		if made, ok := patch(x, u); ok {
			return made
		}
		return a.rebuild(x, u)
	}
	return a.build(additions(u))
}

// nearest returns the bucket of n to which the bits of an update's name lead.
func (n *inner) nearest(u *Update) *bucket {
	for {
		next := n.child(bitOf(u.Key, u.Facet, int(n.bit)))
		b, ok := next.(*bucket)
		if ok {
			return b
		}
		n = next.(*inner)
	}
}

// applyOne is apply for one update whose name differs at the bit given from the
// names in the bucket to which its bits lead, and so, before that, from none on
// the way: no other bucket must be looked at.
func (a *applier) applyOne(n node, u []Update, bit int) node {
	x, ok := n.(*inner)
	if !ok {
		return a.apply(n, u)
	}
	if bit < int(x.bit) {
		made := a.build(additions(u))
		if bitOf(u[0].Key, u[0].Facet, bit) == 0 {
			return join(bit, made, n)
		}
		return join(bit, n, made)
	}
	if bitOf(u[0].Key, u[0].Facet, int(x.bit)) == 0 {
		return x.with(a.applyOne(x.left, u, bit), x.right)
	}
	return x.with(x.left, a.applyOne(x.right, u, bit))
}

// applyInner is apply for an inner node whose first item has the name given:
// its way to the left needs no second look for that name.
func (a *applier) applyInner(n *inner, key, facet []byte, u []Update) node {
	if len(u) < 2 {
		return a.apply(n, u)
	}
	// All updates agree with n's items before this bit, as the first and the
	// last of them do.
	first, last := &u[0], &u[len(u)-1]
	bit := min(firstDifference(first.Key, first.Facet, key, facet), firstDifference(last.Key, last.Facet, key, facet))
	if bit < int(n.bit) {
		cut := splitAt(u, bit)
		if bitOf(key, facet, bit) == 0 {
			return join(bit, a.applyInner(n, key, facet, u[:cut]), a.build(additions(u[cut:])))
		}
		return join(bit, a.build(additions(u[:cut])), a.applyInner(n, key, facet, u[cut:]))
	}
	cut := splitAt(u, int(n.bit))
	l, r := a.both(min(cut, len(u)-cut), func(a *applier) node {
		if left, ok := n.left.(*inner); ok {
			return a.applyInner(left, key, facet, u[:cut])
		}
		return a.apply(n.left, u[:cut])
	}, func(a *applier) node {
		return a.apply(n.right, u[cut:])
	})
	return n.with(l, r)
}

// additions returns the updates that do not remove, u itself if all are such.
func additions(u []Update) []Update {
	removes := func(u Update) bool { return u.Remove }
	if !slices.ContainsFunc(u, removes) {
		return u
	}
	return slices.DeleteFunc(slices.Clone(u), removes)
}

// build returns the tree of items in order.
func (a *applier) build(items []Update) node {
	if len(items) == 0 {
		return nil
	}
	if len(items) <= maxFlat {
		return newBucket(items)
	}
	bit := criticalBit(items)
	cut := splitAt(items, bit)
	l, r := a.both(min(cut, len(items)-cut),
		func(a *applier) node { return a.build(items[:cut]) },
		func(a *applier) node { return a.build(items[cut:]) })
	return join(bit, l, r)
}

// patch makes updates that only change tags in a bucket, the most frequent kind.
// It reports false, having done nothing, if one adds or removes an item.
func patch(b *bucket, u []Update) (node, bool) {
	if len(u) > maxFlat {
		return nil, false
	}
	var hits [maxFlat]uint8 // 1 + the place of the item; 0 for nothing to do
	changed := false
	r, n, at := b.reader(), b.size(), 0
	for i := range u {
		c := compareRest(&r, &u[i])
		for c < 0 && at+1 < n {
			r.next()
			at++
			c = compareRest(&r, &u[i])
		}
		switch {
		case c != 0 && u[i].Remove:
		case c != 0 || u[i].Remove:
			return nil, false
		case b.tag(at) != u[i].Tag:
			hits[i], changed = uint8(at+1), true
		}
	}
	if !changed {
		return b, true
	}
	data := bytes.Clone(b.data)
	for i := range u {
		if hits[i] > 0 {
			copy(data[atTags+int(hits[i]-1)*tagLen:], u[i].Tag[:])
		}
	}
	return seal(data), true
}

// compareRest compares the name that a reader stands at with an update's.
func compareRest(r *reader, u *Update) int {
	p := len(r.prefix)
	if len(u.Key) < p || !bytes.Equal(u.Key[:p], r.prefix) {
		return bytes.Compare(r.prefix, u.Key)
	}
	return CompareNames(r.rest, r.facet, u.Key[p:], u.Facet)
}

// rebuild makes any updates in a bucket.
func (a *applier) rebuild(b *bucket, u []Update) node {
	a.items, a.arena = b.load(a.items[:0], a.arena[:0])
	merged, changed := merge(a.merged[:0], a.items, u)
	a.merged = merged
	if !changed {
		return b
	}
	return a.build(merged)
}

// merge appends items with updates made to dst, and reports whether the updates
// change anything.
func merge(dst, items, u []Update) ([]Update, bool) {
	changed := false
	for i := range u {
		c := -1
		for len(items) > 0 {
			if c = CompareNames(u[i].Key, u[i].Facet, items[0].Key, items[0].Facet); c <= 0 {
				break
			}
			dst, items = append(dst, items[0]), items[1:]
		}
		known := len(items) > 0 && c == 0
		if !u[i].Remove {
			dst = append(dst, u[i])
			changed = changed || !known || items[0].Tag != u[i].Tag
		} else {
			changed = changed || known
		}
		if known {
			items = items[1:]
		}
	}
	return append(dst, items...), changed
}
