package merkle

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"merklekv/pkg/kv"
)

const million = 1_000_000

func BenchmarkTagOf(b *testing.B) {
	for _, size := range []int{16, 100, 1024, 1025, 1 << 20} {
		b.Run(fmt.Sprint("value=", size), func(b *testing.B) {
			e := kv.Entry{Key: []byte("user:00001234"), Version: kv.Version{HLC: 1, Instance: 2}, Value: make([]byte, size)}
			b.SetBytes(int64(size))
			for b.Loop() {
				TagOf(&e)
			}
		})
	}
}

// BenchmarkBuild builds and hashes the tree of a million sorted names; what it
// reports beside the time is the memory that the tree keeps.
func BenchmarkBuild(b *testing.B) {
	for name, key := range shapes() {
		b.Run(name, func(b *testing.B) {
			u := ordered(sequence(million, key))
			before := heapAlloc()
			var tree Tree
			for b.Loop() {
				tree = Tree{}.Apply(u)
			}
			b.ReportMetric(float64(heapAlloc()-before)/float64(tree.Len()), "B/key")
			runtime.KeepAlive(u)
		})
	}
}

// BenchmarkApply makes batches of random updates in a tree of a million: tags
// that change, or a tenth of the names inserted and a tenth removed in turns.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			u := ordered(sequence(million, shapes()["user:%08d"]))
			tree := Tree{}.Apply(u)
			random := rand.New(rand.NewPCG(1, 2))
			n := 0
			for b.Loop() {
				b.StopTimer()
				n++
				batch := make([]Update, size)
				for i := range batch {
					batch[i] = u[random.IntN(len(u))]
					batch[i].Tag = tagOf(batch[i].Key, nil, n)
				}
				batch = ordered(batch)
				b.StartTimer()
				tree = tree.Apply(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*size), "ns/update")
		})
	}
}

// BenchmarkInsertAndRemove makes batches of which every second update removes
// and the others insert.
func BenchmarkInsertAndRemove(b *testing.B) {
	const size = 100_000
	u := ordered(sequence(million, shapes()["user:%08d"]))
	random := rand.New(rand.NewPCG(1, 2))
	there := make([]bool, len(u))
	var start []Update
	for i := range u {
		if there[i] = i%2 == 0; there[i] {
			start = append(start, u[i])
		}
	}
	tree := Tree{}.Apply(start)
	n := 0
	for b.Loop() {
		b.StopTimer()
		places := random.Perm(len(u))[:size]
		slices.Sort(places)
		batch := make([]Update, size)
		for i, p := range places {
			batch[i] = u[p]
			batch[i].Remove = there[p]
			there[p] = !there[p]
		}
		b.StartTimer()
		tree = tree.Apply(batch)
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*size), "ns/update")
}

func BenchmarkRange(b *testing.B) {
	u := ordered(sequence(million, shapes()["user:%08d"]))
	tree := Tree{}.Apply(u)
	for b.Loop() {
		tree.Range([]byte("user:00123456"), []byte("user:00654321"))
	}
}

func BenchmarkSplit(b *testing.B) {
	u := ordered(sequence(million, shapes()["user:%08d"]))
	tree := Tree{}.Apply(u)
	for _, n := range []int{64, 1024} {
		b.Run(fmt.Sprint("parts=", n), func(b *testing.B) {
			for b.Loop() {
				tree.Split(n)
			}
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	u := ordered(sequence(million, shapes()["user:%08d"]))
	tree := Tree{}.Apply(u)
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint("differences=", n), func(b *testing.B) {
			var changed []Update
			for i := range n {
				x := u[i*(len(u)/n)]
				x.Tag = tagOf(x.Key, nil, 2)
				changed = append(changed, x)
			}
			other := tree.Apply(changed)
			for b.Loop() {
				found := 0
				for range Diff(tree, other) {
					found++
				}
				if found != n {
					b.Fatalf("%d differences", found)
				}
			}
		})
	}
}

func BenchmarkAll(b *testing.B) {
	tree := Tree{}.Apply(ordered(sequence(million, shapes()["user:%08d"])))
	b.ReportAllocs()
	for b.Loop() {
		for range tree.All() {
		}
	}
}

func heapAlloc() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
