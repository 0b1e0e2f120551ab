package antientropy

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/store"
	"pgregory.net/rapid"
)

const (
	testEpoch = int64(1_700_000_000)
	testGrace = int64(3)
)

// source is a real replica with a clock that stands where the test puts it.
type source struct {
	*store.Store
	*store.DirtyReader
	millis int64
}

func newSource(t interface {
	Fatal(...any)
	Cleanup(func())
}) *source {
	s := &source{millis: testEpoch * hlc.MillisPerEpoch}
	st, err := store.New(store.Options{Clock: hlc.NewClock(func() int64 { return s.millis }, math.MaxInt32), RingBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	s.Store, s.DirtyReader = st, st.NewDirtyReader()
	t.Cleanup(func() {
		s.DirtyReader.Close()
		s.Store.Close()
	})
	return s
}

func (s *source) Close() {}

// setAt is the definition of S_e: of each name the greatest version of at most e,
// less what kv.Cut hides.
func setAt(entries []kv.Entry, e int64) (merkle.Hash, int) {
	best := make(map[string]kv.Entry)
	var mark kv.Version
	for _, en := range entries {
		if en.Version.Epoch() > e {
			continue
		}
		name := fmt.Sprintf("%d %q %q", len(en.Key), en.Key, en.Facet)
		if held, there := best[name]; !there || kv.Compare(&en, &held) > 0 {
			best[name] = en
		}
		if en.IsReserved() && string(en.Facet) == "t" {
			mark = greater(mark, en.Version)
		}
	}
	var updates []merkle.Update
	for _, en := range best {
		if kv.Cut([]kv.Entry{en}, mark, testGrace, e)[0] {
			updates = append(updates, merkle.Update{Key: en.Key, Facet: en.Facet, Tag: merkle.TagOf(&en)})
		}
	}
	slices.SortFunc(updates, func(a, b merkle.Update) int { return merkle.CompareNames(a.Key, a.Facet, b.Key, b.Facet) })
	t := merkle.Tree{}.Apply(updates)
	return t.Root(), t.Len()
}

// drawEntries draws versions of a few names over a dozen epochs, tombstones and
// expiring ones among them.
func drawEntries(t *rapid.T) []kv.Entry {
	n := rapid.IntRange(1, 40).Draw(t, "n")
	entries := make([]kv.Entry, 0, n)
	for i := range n {
		epoch := testEpoch + int64(rapid.IntRange(0, 11).Draw(t, "epoch"))
		e := kv.Entry{
			Key: []byte(rapid.SampledFrom([]string{"a", "aa", "b", "c"}).Draw(t, "key")),
			Version: kv.Version{
				HLC:      hlc.At(epoch*hlc.MillisPerEpoch) + hlc.Timestamp(i), // never the same twice
				Instance: uint64(rapid.IntRange(1, 3).Draw(t, "instance")),
			},
		}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			e.Flags = kv.Tombstone
		case 1:
			e.Flags, e.Value = kv.HasExpiry, []byte("x")
			e.ExpiresAt = (epoch + int64(rapid.IntRange(0, 5).Draw(t, "ttl"))) * hlc.MillisPerEpoch
		case 2:
			e.Facet, e.Value = []byte("z"), []byte("facet")
		default:
			e.Value = fmt.Appendf(nil, "v%d", i)
		}
		entries = append(entries, e)
	}
	return entries
}

// check compares all kept sets with their definition.
func (s *source) check(t interface {
	Fatalf(string, ...any)
}, x *Index, received []kv.Entry) {
	for _, r := range x.Roots() {
		if root, n := setAt(received, r.Epoch); root != r.Root || n != r.Count {
			t.Fatalf("epoch +%d: the index has %d entries, the definition %d (received %d)", r.Epoch-testEpoch, r.Count, n, len(received))
		}
	}
}

// Whatever arrives in whatever order, losers included, and whenever the index is
// advanced: every kept set is the one that the definition names.
func TestKeptSetsDoNotDependOnTheOrderOfArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := drawEntries(t)
		order := rapid.Permutation(entries).Draw(t, "order")
		s := newSource(t)
		stride := int64(rapid.IntRange(1, 2).Draw(t, "stride"))
		x := NewIndex(s, testGrace, 0)
		x.SetStride(stride)
		x.Advance(s.millis)
		for i := range order {
			if got := s.Apply(&kv.Change{Origin: order[i].Version.Instance, Seq: uint64(i + 1), Entry: order[i]}); got == kv.Deferred {
				t.Fatalf("deferred")
			}
			s.millis += int64(rapid.IntRange(0, 1200).Draw(t, "pass"))
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				x.Advance(s.millis)
				s.check(t, x, order[:i+1])
			case 1:
				x.Drain()
				s.check(t, x, order[:i+1])
			case 2:
				x.Now() // changes nothing
			}
		}
		for range 5 {
			s.millis += 2 * hlc.MillisPerEpoch
			x.Advance(s.millis)
			s.check(t, x, order)
		}
		if len(x.Roots()) != keptRoots {
			t.Fatalf("%d roots are kept", len(x.Roots()))
		}
	})
}
