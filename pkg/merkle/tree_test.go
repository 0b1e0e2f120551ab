package merkle

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// names draws names that are prefixes of each other and have bytes at both ends
// of their range.
func names() *rapid.Generator[Item] {
	part := func(t *rapid.T, label string, most int, alphabet string) []byte {
		n := rapid.SampledFrom([]int{0, 1, 2, 3, 4}[:most+1]).Draw(t, label+" length")
		return rapid.SliceOfN(rapid.SampledFrom([]byte(alphabet)), n, n).Draw(t, label)
	}
	return rapid.Custom(func(t *rapid.T) Item {
		it := Item{Key: part(t, "key", 4, "\x00a\xFE\xFF")}
		if rapid.IntRange(0, 2).Draw(t, "faceted") == 0 {
			it.Facet = part(t, "facet", 2, "\x00m\xFF")
		}
		if len(it.Key) == 0 && len(it.Facet) == 0 {
			it.Facet = []byte("m|node")
		}
		return it
	})
}

// batches draws updates in order. Slices are long more often than rapid would
// make them, or few trees had an inner node.
func batches(most int) *rapid.Generator[[]Update] {
	return rapid.Custom(func(t *rapid.T) []Update {
		var u []Update
		n := rapid.SampledFrom([]int{0, 1, 5, 32, 33, 40, 70, 100, 150, 200}).Draw(t, "names")
		removals := rapid.IntRange(0, 4).Draw(t, "removals")
		for range min(n, most) {
			it := names().Draw(t, "name")
			u = append(u, Update{
				Key: it.Key, Facet: it.Facet,
				Tag:    tagOf(it.Key, it.Facet, rapid.IntRange(0, 3).Draw(t, "version")),
				Remove: rapid.IntRange(0, 4).Draw(t, "remove") < removals,
			})
		}
		return ordered(u)
	})
}

func TestRandomOperationsGiveTheTreeOfARebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		var m model
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			u := batches(150).Draw(t, "batch")
			before, was := tree, m
			tree, m = tree.Apply(u), m.apply(u)
			check(t, tree, m)
			check(t, Tree{}.Apply(m.updates()), m)
			check(t, before, was) // a snapshot does not change
			for _, x := range u {
				tag, ok := tree.Get(x.Key, x.Facet)
				if ok == x.Remove || ok && tag != x.Tag {
					t.Fatalf("Get(%q, %q) = %x, %v after %+v", x.Key, x.Facet, tag, ok, x)
				}
			}
			if got, want := collectDiff(before, tree), was.diff(m); !slices.Equal(got, want) {
				t.Fatalf("differences %+v, want %+v", got, want)
			}
		}
	})
}

func TestDiffOfUnrelatedTrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ma, mb := model(nil).apply(batches(200).Draw(t, "a")), model(nil).apply(batches(200).Draw(t, "b"))
		a, b := Tree{}.Apply(ma.updates()), Tree{}.Apply(mb.updates())
		all := ma.diff(mb)
		if got := collectDiff(a, b); !slices.Equal(got, all) {
			t.Fatalf("differences %+v, want %+v", got, all)
		}
		most, n := rapid.IntRange(1, 20).Draw(t, "most"), 0
		for range Diff(a, b) {
			if n++; n == most {
				break // the walk must end here, in whatever subtree it is
			}
		}
		if want := min(most, len(all)); n != want {
			t.Fatalf("%d differences, want %d", n, want)
		}
	})
}

func TestRangeIsTheTreeOfTheFilteredSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model(nil).apply(batches(200).Draw(t, "set"))
		tree := Tree{}.Apply(m.updates())
		bound := func(label string) []byte {
			if len(m) > 0 && rapid.Bool().Draw(t, "key of the set") {
				return slices.Concat([]byte{}, m[rapid.IntRange(0, len(m)-1).Draw(t, label)].Key)
			}
			return names().Draw(t, label).Key
		}
		lo, hi := bound("lo"), bound("hi")
		check(t, tree.Range(lo, hi), m.filter(func(k []byte) bool {
			return bytes.Compare(k, lo) >= 0 && (hi == nil || bytes.Compare(k, hi) < 0)
		}))
		check(t, tree.Range(lo, nil), m.filter(func(k []byte) bool { return bytes.Compare(k, lo) >= 0 }))
		check(t, tree.Range(nil, []byte{}), nil)
		check(t, tree.Prefix(lo), m.filter(func(k []byte) bool { return bytes.HasPrefix(k, lo) }))
		if tree.Range(nil, nil).root != tree.root || tree.Prefix(nil).root != tree.root {
			t.Fatalf("the whole range is another tree")
		}
	})
}

func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model(nil).apply(batches(200).Draw(t, "set"))
		tree := Tree{}.Apply(m.updates())
		keys := len(slices.CompactFunc(slices.Clone(m), func(a, b Item) bool { return bytes.Equal(a.Key, b.Key) }))
		n := rapid.IntRange(-1, 100).Draw(t, "n")
		parts := tree.Split(n)
		if want := max(1, min(n, keys)); len(parts) != want {
			t.Fatalf("%d parts of %d keys, want %d", len(parts), keys, want)
		}
		if parts[0].Low != nil {
			t.Fatalf("the first part starts at %q", parts[0].Low)
		}
		for i, p := range parts {
			var hi []byte
			if i+1 < len(parts) {
				hi = parts[i+1].Low
				last, next := collect(p.Tree), collect(parts[i+1].Tree)
				if want := separator(last[len(last)-1].Key, next[0].Key); !bytes.Equal(hi, want) {
					t.Fatalf("separator %q, want %q", hi, want)
				}
			}
			check(t, p.Tree, collect(tree.Range(p.Low, hi)))
		}
	})
}

// separator returns the shortest string above low that is not above high.
func separator(low, high []byte) []byte {
	for i := range high {
		if s := high[:i+1]; bytes.Compare(s, low) > 0 {
			return s
		}
	}
	return nil
}

func TestSplitBalances(t *testing.T) {
	for name, key := range shapes() {
		tree := Tree{}.Apply(ordered(sequence(100_000, key)))
		for _, n := range []int{2, 16, 64, 1024} {
			parts := tree.Split(n)
			largest := slices.MaxFunc(parts, func(a, b Part) int { return cmp.Compare(a.Tree.Len(), b.Tree.Len()) })
			if len(parts) != n || largest.Tree.Len() > 4*tree.Len()/n {
				t.Errorf("%s: %d parts, want %d; the largest has %d of %d", name, len(parts), n, largest.Tree.Len(), tree.Len())
			}
		}
	}
}

// shapes are the key shapes that figures are measured with.
func shapes() map[string]func(i int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	return map[string]func(i int) []byte{
		"user:%08d": func(i int) []byte { return fmt.Appendf(nil, "user:%08d", i) },
		"random32": func(int) []byte {
			k := make([]byte, 0, 32)
			for range 4 {
				x := random.Uint64()
				for s := range 8 {
					k = append(k, byte(x>>(8*s)))
				}
			}
			return k
		},
		"siteX/devY/chZ": func(i int) []byte { return fmt.Appendf(nil, "site%d/dev%d/ch%d", i/10_000, i/100%100, i%100) },
	}
}

func sequence(n int, key func(i int) []byte) []Update {
	u := make([]Update, n)
	for i := range u {
		k := key(i)
		u[i] = Update{Key: k, Tag: tagOf(k, nil, 1)}
	}
	return u
}

func TestApplyKeepsWhatDoesNotChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model(nil).apply(batches(200).Draw(t, "set"))
		tree := Tree{}.Apply(m.updates())
		if again := tree.Apply(m.updates()); again.root != tree.root {
			t.Fatalf("setting equal tags makes another tree")
		}
		var absent []Update
		for _, u := range batches(50).Draw(t, "absent") {
			if _, ok := tree.Get(u.Key, u.Facet); !ok {
				absent = append(absent, Update{Key: u.Key, Facet: u.Facet, Remove: true})
			}
		}
		if again := tree.Apply(absent); again.root != tree.root {
			t.Fatalf("removing what is absent makes another tree")
		}
	})
}

func TestApplyRefusesUnorderedUpdates(t *testing.T) {
	for name, u := range map[string][]Update{
		"descending": {{Key: []byte("b")}, {Key: []byte("a")}},
		"twice":      {{Key: []byte("a")}, {Key: []byte("a"), Remove: true}},
		"facets":     {{Key: []byte("a"), Facet: []byte("f")}, {Key: []byte("a")}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Tree{}.Apply(u)
		}()
	}
}

func TestDeletedAndReinserted(t *testing.T) {
	u := sequence(10_000, shapes()["siteX/devY/chZ"])
	u = ordered(u)
	tree := Tree{}.Apply(u)
	random := rand.New(rand.NewPCG(3, 4))
	removals, additions := []Update{}, []Update{}
	for _, x := range u {
		if random.IntN(3) > 0 {
			additions = append(additions, x)
			x.Remove = true
			removals = append(removals, x)
		}
	}
	fewer := tree.Apply(removals)
	if fewer.Len() != len(u)-len(removals) {
		t.Fatalf("%d items left, want %d", fewer.Len(), len(u)-len(removals))
	}
	if again := fewer.Apply(additions); again.Root() != tree.Root() {
		t.Error("deleting and inserting again gives another root")
	}
	for i := range u {
		u[i].Remove = true
	}
	if empty := tree.Apply(u); empty.Root() != (Tree{}).Root() || empty.root != nil {
		t.Error("the emptied tree is not the empty tree")
	}
}

func TestOrderOfInsertionDoesNotMatter(t *testing.T) {
	u := ordered(sequence(3_000, shapes()["user:%08d"]))
	want := Tree{}.Apply(u).Root()
	random := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{1, 7, 100, 1000} {
		random.Shuffle(len(u), func(i, j int) { u[i], u[j] = u[j], u[i] })
		var tree Tree
		for batch := range slices.Chunk(u, size) {
			tree = tree.Apply(ordered(slices.Clone(batch)))
		}
		if tree.Root() != want {
			t.Errorf("batches of %d in random order give another root", size)
		}
	}
}

// Inner nodes that lie beside each other, or one within a side of the other.
func TestDiffOfParts(t *testing.T) {
	tree := Tree{}.Apply(ordered(sequence(2000, shapes()["user:%08d"])))
	parts := []Tree{tree}
	for _, p := range []string{"user:000000", "user:000001", "user:000007", "user:000012", "user:00001", "user:000019"} {
		parts = append(parts, tree.Prefix([]byte(p)))
	}
	for i, a := range parts {
		for j, b := range parts {
			if got, want := collectDiff(a, b), collect(a).diff(collect(b)); !slices.Equal(got, want) {
				t.Errorf("parts %d and %d: %d differences, want %d", i, j, len(got), len(want))
			}
		}
	}
}
