package vector

import (
	"iter"
	"math"
	"testing"

	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
)

// clockOf is the stamp of a change in the model: seven changes in an epoch.
func clockOf(seq uint64) hlc.Timestamp { return hlc.At(int64(seq/7)*1000 + int64(seq%7)) }

func TestVectorAgreesWithSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := New()
		set := make(map[uint64]bool)
		oldest := int64(0)
		if rapid.Bool().Draw(t, "nobody asks") {
			oldest = math.MaxInt64
			v.Retain(oldest)
		}
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
				want := Recorded
				if set[seq] {
					want = Before
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
	above := make(map[uint64]bool)
	for low, high := range v.Runs(1) {
		for s := low; s <= high; s++ {
			above[s] = true
		}
	}
	for s := uint64(1); s <= 61; s++ {
		if v.Contains(1, s) != set[s] {
			t.Fatalf("Contains(%d) = %v, want %v", s, v.Contains(1, s), set[s])
		}
		if above[s] != (s > prefix && set[s]) {
			t.Fatalf("%d lies in a run: %v; set %v, prefix %d", s, above[s], set[s], prefix)
		}
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

func count(runs iter.Seq2[uint64, uint64]) (n int) {
	for range runs {
		n++
	}
	return n
}

func TestRunsAreBounded(t *testing.T) {
	v := New()
	for i := range uint64(MaxRuns) {
		if got := v.Add(1, 2*i+3, clockOf(1)); got != Recorded {
			t.Fatalf("run %d: %v", i, got)
		}
	}
	if got := v.Add(1, 1_000_001, clockOf(1)); got != Nowhere {
		t.Fatalf("run beyond the limit: %v", got)
	}
	if v.Contains(1, 1_000_001) {
		t.Fatal("what was not recorded counts as received")
	}
	if got := v.Add(1, 4, clockOf(1)); got != Recorded || count(v.Runs(1)) != MaxRuns-1 {
		t.Fatalf("joining two runs: %v, %d runs", got, count(v.Runs(1)))
	}
	if v.AppendRun(2, 3, 4) != true || v.AppendRun(2, 4, 5) || v.AppendRun(2, 9, 8) {
		t.Fatal("runs that overlap or end before they begin are taken, or others are not")
	}
}

// Who never asks about epochs, like a journal, pays for none, however long it runs.
func TestNobodyAsksForEpochs(t *testing.T) {
	v := New()
	v.Retain(math.MaxInt64)
	for seq := uint64(1); seq <= 50_000; seq++ {
		v.Add(1, seq, clockOf(seq))
		v.Add(2, seq+1, clockOf(seq)) // all above a gap
		if m, r := len(v.at(1).marks), count(v.Runs(2)); m > 1 || r > 1 {
			t.Fatalf("after %d changes %d marks and %d runs", seq, m, r)
		}
	}
	v.Add(2, 1, clockOf(1))
	if v.Prefix(1) != (Mark{50_000, clockOf(50_000)}) || v.Prefix(2).Seq != 50_001 || len(v.at(2).marks) != 1 {
		t.Fatalf("prefixes %v and %v, %d marks", v.Prefix(1), v.Prefix(2), len(v.at(2).marks))
	}
}

func TestAStampThatGoesBackDoesNotMovePrefixBack(t *testing.T) {
	v := New()
	v.Add(1, 1, clockOf(30))
	v.Add(1, 2, clockOf(2))
	if got := v.Prefix(1); got != (Mark{2, clockOf(30)}) {
		t.Fatalf("prefix %v", got)
	}
	if got := v.At(1, clockOf(2).Epoch()); got.Seq != 0 {
		t.Fatalf("at the epoch of the second stamp: %v", got)
	}
}
