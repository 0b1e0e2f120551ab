package merkle

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"merklekv/pkg/kv"
)

var operations = flag.Int("operations", 1_000_000, "random operations of the test of bounded memory")

// Figures of the tree as it is plus a little: what makes it fatter fails here.
func TestMemoryPerKey(t *testing.T) {
	if testing.Short() {
		t.Skip("builds large trees")
	}
	most := map[string]float64{"user:%08d": 30, "siteX/devY/chZ": 30, "random32": 60}
	for name, key := range shapes() {
		u := ordered(sequence(200_000, key))
		before := heapAlloc()
		tree := Tree{}.Apply(u)
		perKey := float64(heapAlloc()-before) / float64(tree.Len())
		t.Logf("%s: %.1f bytes a key", name, perKey)
		if perKey > most[name] {
			t.Errorf("%s: %.1f bytes a key, want at most %v", name, perKey, most[name])
		}
		runtime.KeepAlive(u)
		runtime.KeepAlive(tree)
	}
}

// Old snapshots that are dropped do not keep memory alive.
func TestMemoryStaysBounded(t *testing.T) {
	const keys, batch = 50_000, 1000
	n := *operations
	if testing.Short() {
		n /= 10
	}
	const seed = 17
	random := rand.New(rand.NewPCG(seed, seed))
	before := heapAlloc()
	var kept [4]Tree
	for i := range n / batch {
		u := make([]Update, batch)
		for j := range u {
			key := fmt.Appendf(nil, "user:%08d", random.IntN(keys))
			u[j] = Update{Key: key, Tag: tagOf(key, nil, i), Remove: random.IntN(3) == 0}
		}
		kept[i%len(kept)] = kept[(i+len(kept)-1)%len(kept)].Apply(ordered(u))
		if i%(n/batch/10) != 0 {
			continue
		}
		if used := heapAlloc() - before; used > 80*keys {
			t.Fatalf("%d bytes of heap after %d operations (seed %d)", used, (i+1)*batch, seed)
		}
	}
	latest := kept[(n/batch-1)%len(kept)]
	check(t, latest, collect(Tree{}.Apply(collect(latest).updates())))
}

func depth(n node) int {
	x, ok := n.(*inner)
	if !ok {
		return 0
	}
	return 1 + max(depth(x.left), depth(x.right))
}

// chain returns the names that make the deepest tree: the longest name, and for
// each of its bits one that parts from it there.
func chain() []Update {
	key, facet := make([]byte, kv.MaxKeyLen), make([]byte, kv.MaxFacetLen)
	var u []Update
	add := func(k, f []byte) { u = append(u, Update{Key: k, Facet: f, Tag: tagOf(k, f, 1)}) }
	add(key, facet)
	for i := range key {
		add(key[:i], []byte("x"))
		for s := range 8 {
			add(append(bytes.Clone(key[:i]), 1<<s), nil)
		}
	}
	for i := range facet {
		add(key, facet[:i])
		for s := range 8 {
			add(key, append(bytes.Clone(facet[:i]), 1<<s))
		}
	}
	return ordered(u)
}

func TestDeepestTree(t *testing.T) {
	u := chain()
	tree := Tree{}.Apply(u)
	most := 9 * (kv.MaxKeyLen + kv.MaxFacetLen)
	if d := depth(tree.root); d > most || d < most-2*maxFlat {
		t.Fatalf("depth %d, want about %d", d, most)
	}
	slow := Tree{}
	for batch := range slices.Chunk(u, 500) {
		slow = slow.Apply(batch)
	}
	if slow.Root() != tree.Root() || len(collect(tree)) != len(u) {
		t.Fatal("the root depends on the batches")
	}
	x := u[len(u)/2]
	x.Tag[0]++
	other := tree.Apply([]Update{x})
	if d := collectDiff(tree, other); len(d) != 1 || d[0].key != string(x.Key) {
		t.Errorf("differences %v", d)
	}
	if tag, ok := other.Get(x.Key, x.Facet); !ok || tag != x.Tag {
		t.Error("the changed name is not found")
	}
	parts := tree.Split(64)
	if len(parts) != 64 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, p := range parts {
		var hi []byte
		if i < 63 {
			hi = parts[i+1].Low
		}
		if r := tree.Range(p.Low, hi); r.Root() != p.Tree.Root() {
			t.Errorf("part %d is not the range from its separator to the next", i)
		}
	}
}

func TestNestedKeys(t *testing.T) {
	var m model
	for i := 1; i <= kv.MaxKeyLen; i++ {
		k := bytes.Repeat([]byte("a"), i)
		m = append(m, Item{Key: k, Tag: tagOf(k, nil, 1)})
	}
	tree := Tree{}.Apply(m.updates())
	check(t, tree, m)
	if d := depth(tree.root); d != kv.MaxKeyLen-maxFlat {
		t.Errorf("depth %d", d)
	}
	for _, it := range m {
		if tag, ok := tree.Get(it.Key, nil); !ok || tag != it.Tag {
			t.Errorf("%d bytes: not found", len(it.Key))
		}
	}
}

// Large batches use several goroutines; the race detector watches them and
// readers of the tree that they start from.
func TestLargeBatches(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	u := ordered(sequence(60_000, shapes()["siteX/devY/chZ"]))
	small := Tree{}
	for batch := range slices.Chunk(u, 1000) {
		small = small.Apply(batch)
	}
	tree := Tree{}.Apply(u)
	if tree.Root() != small.Root() {
		t.Fatal("one batch gives another root than many")
	}
	changed := slices.Clone(u)
	for i := range changed {
		changed[i].Tag = tagOf(u[i].Key, nil, 2)
		changed[i].Remove = i%3 == 0
	}
	read := make(chan int)
	go func() {
		n := 0
		for range tree.All() {
			n++
		}
		read <- n
	}()
	after := tree.Apply(changed)
	if n := <-read; n != len(u) {
		t.Errorf("a reader saw %d items", n)
	}
	if want := (Tree{}).Apply(additions(changed)); after.Root() != want.Root() {
		t.Error("a large change gives another root than a rebuild")
	}
}

func TestReadingAllocatesNothingPerItem(t *testing.T) {
	tree := Tree{}.Apply(ordered(sequence(10_000, shapes()["user:%08d"])))
	allocs := testing.AllocsPerRun(5, func() {
		for range tree.All() {
		}
	})
	if allocs > 10 {
		t.Errorf("%v allocations for 10000 items", allocs)
	}
	key := []byte("user:00001234")
	if allocs := testing.AllocsPerRun(100, func() { tree.Get(key, nil) }); allocs != 0 {
		t.Errorf("%v allocations for Get", allocs)
	}
}
