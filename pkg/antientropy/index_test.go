package antientropy

import (
	"flag"
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
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("2000") // some of the mistakes that are possible are rare
		if raceEnabled {
			f.Value.Set("300")
		}
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, func(t *rapid.T) {
		entries := drawEntries(t)
		order := rapid.Permutation(entries).Draw(t, "order")
		s := newSource(t)
		stride := int64(rapid.IntRange(1, 5).Draw(t, "stride"))
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
		for range 5 * stride {
			s.millis += 2 * hlc.MillisPerEpoch
			x.Advance(s.millis)
			s.check(t, x, order)
		}
		if len(x.Roots()) != keptRoots {
			t.Fatalf("%d roots are kept", len(x.Roots()))
		}
	})
}

// received is one replica and all that it was given.
type received struct {
	*source
	x       *Index
	entries []kv.Entry
	seq     uint64
}

func newReceived(t *testing.T) *received {
	s := newSource(t)
	r := &received{source: s, x: NewIndex(s, testGrace, 0)}
	r.x.Advance(s.millis)
	return r
}

// take gives an entry stamped so many epochs after the first; in sequence or not.
func (r *received) take(t *testing.T, key, facet string, epoch int64, flags kv.Flags, inSequence bool) {
	t.Helper()
	r.seq++
	e := kv.Entry{Key: []byte(key), Facet: []byte(facet), Flags: flags,
		Version: kv.Version{HLC: hlc.At((testEpoch+epoch)*hlc.MillisPerEpoch) + hlc.Timestamp(r.seq), Instance: 9}}
	if flags == 0 {
		e.Value = fmt.Appendf(nil, "%d", r.seq)
	}
	c := &kv.Change{Origin: 9, Entry: e}
	if inSequence {
		c.Seq = r.seq
	}
	if r.Apply(c) == kv.Deferred {
		t.Fatal("deferred")
	}
	r.entries = append(r.entries, e)
}

func (r *received) advanceTo(epoch int64) {
	r.millis = (testEpoch + epoch + 1) * hlc.MillisPerEpoch
	r.x.Advance(r.millis)
}

// told returns the oldest epoch whose root is told, as an offset; 99 if none is.
func (r *received) told() int64 {
	oldest := int64(99)
	for _, root := range r.x.Roots() {
		if root.Told {
			oldest = min(oldest, root.Epoch-testEpoch)
		}
	}
	return oldest
}

// What came out of sequence is in sets whose vectors do not say so: their roots
// are kept to oneself.
func TestRootsAreNotToldOfWhatCameOutOfSequence(t *testing.T) {
	r := newReceived(t)
	r.take(t, "a", "", 0, 0, true)
	r.advanceTo(5)
	if got := r.told(); got > 5 {
		t.Fatalf("roots are told from +%d", got)
	}
	r.take(t, "b", "", 7, 0, false)
	r.advanceTo(6)
	if got := r.told(); got != 99 {
		t.Fatalf("a root is told of +%d, before the epoch of what came out of sequence", got)
	}
	r.advanceTo(7)
	if got := r.told(); got != 7 {
		t.Fatalf("roots are told from +%d", got)
	}
	r.check(t, r.x, r.entries)
}

// A truncation empties the set, whether it comes in time or late; what is
// reserved and what is newer stays.
func TestTruncationEmptiesTheSet(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			r := newReceived(t)
			for i := range 100 {
				r.take(t, fmt.Sprint("k", i), "", 0, 0, true)
			}
			r.take(t, "", "mnode", 0, 0, true)
			r.advanceTo(1)
			r.take(t, "new", "", 3, 0, true)
			if late {
				r.advanceTo(4)
			}
			r.take(t, "", "t", 2, 0, true)
			r.x.Drain()
			r.take(t, "old", "", 1, 0, true)
			r.take(t, "newer", "", 4, 0, true)
			r.advanceTo(6)
			r.check(t, r.x, r.entries)
			if newest := r.x.Roots()[0]; newest.Count != 4 || !newest.Told {
				t.Fatalf("%+v, want the mark, the member and two keys", newest)
			}
		})
	}
}

// An index that is built from a replica that holds much already has the same sets
// from the newest entry on.
func TestBuildGivesTheSameSet(t *testing.T) {
	r := newReceived(t)
	for i := range 3000 {
		flags := kv.Flags(0)
		if i%7 == 0 {
			flags = kv.Tombstone
		}
		r.take(t, fmt.Sprintf("key-%04d", i%1000), "", int64(i%4), flags, true)
	}
	built := NewIndex(r.source, testGrace, 0)
	for e := int64(3); e < 9; e++ {
		r.advanceTo(e)
		built.Advance(r.millis)
		r.check(t, r.x, r.entries)
		r.check(t, built, r.entries)
		if len(built.Roots()) == 0 || built.Roots()[0] != r.x.Roots()[0] {
			t.Fatalf("built %+v, grown %+v", built.Roots(), r.x.Roots())
		}
	}
}

// The present set holds what is not closed yet, and asking for it changes nothing.
func TestNowHoldsWhatIsNotClosed(t *testing.T) {
	r := newReceived(t)
	r.take(t, "a", "", 0, 0, true)
	r.advanceTo(0)
	r.take(t, "b", "", 2, 0, true)
	r.take(t, "a", "", 3, kv.Tombstone, true)
	want, n := setAt(r.entries, testEpoch+3)
	for range 2 {
		if now := r.x.Now(); now.Root() != want || now.Len() != n {
			t.Fatalf("%d entries, want %d", now.Len(), n)
		}
	}
	r.check(t, r.x, r.entries)
}

// Sealing comes first: what is written while an epoch is being closed belongs to
// a later one, though the clock stands still.
func TestNothingIsStampedInAClosedEpoch(t *testing.T) {
	r := newReceived(t)
	if _, err := r.Set([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	stamped := r.Greatest().Epoch()
	r.x.Advance((stamped + 1) * hlc.MillisPerEpoch) // this node's clock is behind
	if _, err := r.Set([]byte("k"), []byte("w")); err != nil {
		t.Fatal(err)
	}
	if r.Greatest().Epoch() <= r.x.Sealed() {
		t.Fatalf("epoch %d was sealed and a change is stamped in %d", r.x.Sealed(), r.Greatest().Epoch())
	}
}

// What is deleted again and again leaves one note of when it is due, not one each
// time.
func TestDueNotesDoNotGrowWithWrites(t *testing.T) {
	const keys, rounds = 1000, 60
	f := &feed{}
	x := NewIndex(f, 3600, 0)
	x.Advance(testEpoch * hlc.MillisPerEpoch)
	for round := range int64(rounds) {
		epoch := testEpoch + round
		for i := range keys {
			e := benchEntry(i, keys, epoch)
			e.Flags, e.Value = kv.Tombstone, nil
			f.log = append(f.log, kv.Logged{Change: kv.Change{Origin: 1, Seq: 1, Entry: e}})
		}
		x.Advance((epoch + 1) * hlc.MillisPerEpoch)
	}
	each := 3 + len("user:00000000") + dueTag
	if limit := 2*dueSweep + keys*each; x.due.bytes > limit || x.due.bytes < keys*each {
		t.Fatalf("%d bytes of notes for %d keys, deleted %d times", x.due.bytes, keys, rounds)
	}
	x.due.sweepAt = 0
	x.due.sweep(x.newest().tree)
	if x.due.bytes != keys*each {
		t.Fatalf("%d bytes of notes are left, %d are needed", x.due.bytes, keys*each)
	}
}

// The same mark coming a second time, as by a message after a session, is no
// reason to build anything.
func TestMarkThatIsKnownBuildsNothing(t *testing.T) {
	r := newReceived(t)
	r.take(t, "", "t", 0, 0, false)
	r.x.Drain()
	dumps := 0
	r.x.src = counting{r.source, &dumps}
	for range 3 {
		e := r.entries[0]
		r.seq++
		r.Apply(&kv.Change{Origin: 9, Seq: r.seq, Entry: e})
		r.x.Drain()
	}
	if dumps != 0 {
		t.Fatalf("the index was built %d times for a mark that it knew", dumps)
	}
}

type counting struct {
	Source
	dumps *int
}

func (c counting) Dump(fn func(*kv.Entry) bool) {
	*c.dumps++
	c.Source.Dump(fn)
}

// An index that was built before the time was known, from nothing, tells of no
// epoch but those that it has closed.
func TestBuildOfNothingTellsNoEpoch(t *testing.T) {
	s := newSource(t)
	x := NewIndex(s, 3600, 0)
	x.Build(0)
	if roots := x.Roots(); len(roots) != 0 {
		t.Fatalf("roots %+v before any epoch was closed", roots)
	}
	x.Advance(testEpoch * hlc.MillisPerEpoch)
	if roots := x.Roots(); len(roots) != 1 || roots[0].Epoch != testEpoch-1 || !roots[0].Told {
		t.Fatalf("roots %+v after the first", roots)
	}
	if _, kept := x.At(-1); kept {
		t.Fatal("an epoch below 0 is kept")
	}
}

// However many entries there are, and whatever their values, a build hashes each as
// it is.
func TestBuildHashesEveryKindOfEntry(t *testing.T) {
	var entries []kv.Entry
	for i := range 2*pieceLen + 100 {
		e := benchEntry(i, 1<<20, testEpoch-10)
		switch i % 5 {
		case 0:
			e.Value = make([]byte, copyLimit+i%3) // at the limit and above
		case 1:
			e.Value = nil
		case 2:
			e.Flags, e.Value = kv.Tombstone, nil
			e.Version.HLC = hlc.At((testEpoch-int64(i%6))*hlc.MillisPerEpoch) + hlc.Timestamp(i)
		case 3:
			e.Flags, e.ExpiresAt = kv.HasExpiry, (testEpoch+int64(i%7)-3)*hlc.MillisPerEpoch
		}
		entries = append(entries, e)
	}
	x := NewIndex(&feed{dump: func(fn func(*kv.Entry) bool) {
		for i := range entries {
			fn(&entries[i])
		}
	}}, testGrace, 0)
	mixed, ordered := NewIndex(&feed{}, testGrace, 0), NewIndex(&feed{}, testGrace, 0)
	mixed.BuildLoaded(loadedFrom(entries), 0)
	inOrder := slices.SortedFunc(slices.Values(entries), func(e, f kv.Entry) int {
		return merkle.CompareNames(e.Key, e.Facet, f.Key, f.Facet)
	})
	ordered.BuildLoaded(loadedFrom(inOrder), 0)
	for e := testEpoch; e < testEpoch+8; e++ {
		root, n := setAt(entries, e)
		for how, x := range map[string]*Index{"dumped": x, "loaded": mixed, "loaded in order": ordered} {
			x.Advance((e + 1) * hlc.MillisPerEpoch)
			if newest := x.Roots()[0]; newest.Epoch != e || newest.Root != root || newest.Count != n {
				t.Fatalf("%s, epoch +%d: %d entries, the definition has %d", how, e-testEpoch, newest.Count, n)
			}
		}
	}
}

func loadedFrom(entries []kv.Entry) *Loaded {
	l := NewLoaded()
	for i := range entries {
		l.Add(&entries[i])
	}
	return l
}
