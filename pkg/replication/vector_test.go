package replication

import (
	"testing"

	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
	"merklekv/pkg/vector"
)

func TestVectorFromWireIsTheVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := vector.New()
		for range rapid.IntRange(0, 60).Draw(t, "n") {
			seq := rapid.Uint64Range(1, 40).Draw(t, "seq")
			v.Add(rapid.Uint64Range(1, 3).Draw(t, "instance"), seq, hlc.At(int64(seq/7)*1000))
		}
		w := vectorOf(vectorItems(v), vectorSpans(v, 1<<10))
		for i := uint64(1); i <= 3; i++ {
			for s := uint64(1); s <= 41; s++ {
				if v.Contains(i, s) != w.Contains(i, s) {
					t.Fatalf("instance %d seq %d: %v and %v", i, s, v.Contains(i, s), w.Contains(i, s))
				}
			}
		}
	})
}
