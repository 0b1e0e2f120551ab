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
	return Tree{a.apply(t.root, updates, unknown, unknown)}
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

// unknown stands for a divergence that has not been looked up.
const unknown = -1

// apply returns n with the updates made, n itself if they change nothing. first
// and last are the divergences of the first and the last update from n, or
// unknown.
func (a *applier) apply(n node, u []Update, first, last int) node {
	if len(u) == 0 {
		return n
	}
	switch x := n.(type) {
	case *inner:
		return a.applyInner(x, u, first, last)
	case *bucket:
		if made, ok := patch(x, u); ok {
			return made
		}
		return a.rebuild(x, u)
	}
	return a.build(additions(u))
}

func (a *applier) applyInner(n *inner, u []Update, first, last int) node {
	if len(u) == 1 {
		first = max(first, last)
		last = first
	}
	if first == unknown {
		first = divergence(n, &u[0])
	}
	if last == unknown {
		last = divergence(n, &u[len(u)-1])
	}
	// Updates between the first and the last agree with n for as long as both do.
	if min(first, last) < int(n.bit) {
		return a.graft(n, u, first, last)
	}
	switch cut := splitAt(u, int(n.bit)); cut {
	case 0:
		return n.with(n.left, a.apply(n.right, u, first, last))
	case len(u):
		return n.with(a.apply(n.left, u, first, last), n.right)
	default:
		return n.with(a.both(min(cut, len(u)-cut),
			func(a *applier) node { return a.apply(n.left, u[:cut], first, unknown) },
			func(a *applier) node { return a.apply(n.right, u[cut:], unknown, last) }))
	}
}

// graft is apply for updates of which some part from all of n's items above n's
// critical bit: at the lesser of the divergences.
func (a *applier) graft(n *inner, u []Update, first, last int) node {
	bit := min(first, last)
	cut := splitAt(u, bit)
	side := bitOf(u[0].Key, u[0].Facet, bit) // of n's items
	if first == bit {
		side = 1 - side
	}
	if side == 0 {
		return join(bit, a.apply(n, u[:cut], first, unknown), a.build(additions(u[cut:])))
	}
	return join(bit, a.build(additions(u[:cut])), a.apply(n, u[cut:], unknown, last))
}

// divergence returns the first bit in which an update's name differs from that
// of an item to which its bits lead. At every node on the way there this is where
// the name parts from all items, or it is behind the node's critical bit. The
// bucket that is looked at is the one that the update changes.
func divergence(n *inner, u *Update) int {
	for {
		next := n.child(bitOf(u.Key, u.Facet, int(n.bit)))
		if b, ok := next.(*bucket); ok {
			key, facet := b.first()
			return firstDifference(u.Key, u.Facet, key, facet)
		}
		n = next.(*inner)
	}
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
