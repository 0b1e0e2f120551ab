package replication

import (
	"testing"

	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
)

// clockOf is the stamp of a change in the model: seven changes in an epoch.
func clockOf(seq uint64) hlc.Timestamp { return hlc.At(int64(seq/7)*1000 + int64(seq%7)) }

func TestVectorAgreesWithSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := NewVector()
		set := make(map[uint64]bool)
		oldest := int64(0)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			seq := rapid.Uint64Range(1, 60).Draw(t, "seq")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				v.Adopt(1, Mark{seq, clockOf(seq)})
				for s := uint64(1); s <= seq; s++ {
					set[s] = true
				}
				oldest = max(oldest, clockOf(seq).Epoch()) // the marks below are unknown now
			case 1:
				oldest = max(oldest, clockOf(seq).Epoch()-5)
				v.Retain(oldest)
			default:
				want := addedNew
				if set[seq] {
					want = addedBefore
				}
				if got := v.Add(1, seq, clockOf(seq)); got != want {
					t.Fatalf("Add(%d) = %v, want %v", seq, got, want)
				}
				set[seq] = true
			}
			checkVector(t, v, set, oldest)
		}
	})
}

func checkVector(t *rapid.T, v *Vector, set map[uint64]bool, oldest int64) {
	prefix := uint64(0)
	for set[prefix+1] {
		prefix++
	}
	if got := v.Prefix(1); got.Seq != prefix || prefix > 0 && got.HLC != clockOf(prefix) {
		t.Fatalf("prefix %v, want %d at %v", got, prefix, clockOf(prefix))
	}
	gaps := false
	for s := uint64(1); s <= 61; s++ {
		gaps = gaps || s > prefix && set[s]
		if v.Contains(1, s) != set[s] {
			t.Fatalf("Contains(%d) = %v, want %v", s, v.Contains(1, s), set[s])
		}
	}
	if spans := v.Spans(1); len(spans) > 0 != gaps {
		t.Fatalf("spans %v, but gaps: %v", spans, gaps)
	}
	for e := oldest; e <= clockOf(61).Epoch(); e++ {
		want := uint64(0)
		for s := uint64(1); s <= prefix && clockOf(s).Epoch() <= e; s++ {
			want = s
		}
		if got := v.At(1, e); got.Seq != want {
			t.Fatalf("At(%d) = %v, want %d", e, got, want)
		}
	}
}

func TestVectorSpansAreBounded(t *testing.T) {
	v := NewVector()
	for i := range uint64(maxSpans) {
		if got := v.Add(1, 2*i+3, clockOf(1)); got != addedNew {
			t.Fatalf("span %d: %v", i, got)
		}
	}
	if got := v.Add(1, 1_000_001, clockOf(1)); got != addedNowhere {
		t.Fatalf("span beyond the limit: %v", got)
	}
	if v.Contains(1, 1_000_001) {
		t.Fatal("what was not recorded counts as received")
	}
	if got := v.Add(1, 4, clockOf(1)); got != addedNew || len(v.Spans(1<<20)) != maxSpans-1 {
		t.Fatalf("joining two spans: %v, %d spans", got, len(v.Spans(1<<20)))
	}
}

func TestVectorFromWireIsTheVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := NewVector()
		for range rapid.IntRange(0, 60).Draw(t, "n") {
			seq := rapid.Uint64Range(1, 40).Draw(t, "seq")
			v.Add(rapid.Uint64Range(1, 3).Draw(t, "instance"), seq, clockOf(seq))
		}
		w := vectorOf(v.Items(), v.Spans(1<<10))
		for i := uint64(1); i <= 3; i++ {
			for s := uint64(1); s <= 41; s++ {
				if v.Contains(i, s) != w.Contains(i, s) {
					t.Fatalf("instance %d seq %d: %v and %v", i, s, v.Contains(i, s), w.Contains(i, s))
				}
			}
		}
	})
}
