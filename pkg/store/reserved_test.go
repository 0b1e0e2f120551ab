package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// facets returns what is held of a key, by facet.
func facets(s *Store, key string) map[string]kv.Entry {
	held := make(map[string]kv.Entry)
	for _, e := range s.Entries(nil, []byte(key)) {
		held[string(e.Facet)] = e
	}
	return held
}

func TestEntriesAreCopiesOfAllFacets(t *testing.T) {
	s, _ := newStore(t, Options{Instance: 1})
	if got := s.Entries(nil, []byte("k")); got != nil {
		t.Fatalf("an empty store holds %v", got)
	}
	mustSet(t, s, "k", "v")
	for i, facet := range []string{"x", "c1", "c2"} {
		c := remote(2, uint64(i+1), testStart, "k", facet+" value")
		c.Entry.Facet = []byte(facet)
		s.Apply(c)
	}
	first := kv.Entry{Key: []byte("other")}
	got := s.Entries([]kv.Entry{first}, []byte("k"))
	if len(got) != 5 || string(got[0].Key) != "other" {
		t.Fatalf("%d entries, want the one before and 4: %v", len(got), got)
	}
	for _, e := range got[1:] {
		e.Value[0] = '#' // must not reach the store
	}
	held := facets(s, "k")
	if len(held) != 4 || string(held["c2"].Value) != "c2 value" || held["x"].Version.Instance != 2 || get(s, "k") != "v" {
		t.Errorf("held %v", held)
	}
	if _, _, err := s.Delete([]byte("k")); err != nil {
		t.Fatal(err)
	}
	held = facets(s, "k")
	if base := held[""]; len(held) != 4 || !base.IsTombstone() {
		t.Errorf("a deleted key is held as %v", held)
	}
}

func TestHeldTellsWhatReadersSee(t *testing.T) {
	s, clock := newStore(t, Options{})
	visible := func() (seen []string) {
		for _, h := range s.Held([]byte("k")) {
			if h.Visible {
				seen = append(seen, string(h.Facet)+"="+string(h.Value))
			}
		}
		return seen
	}
	c := remote(2, 1, testStart, "k", "other")
	c.Entry.Facet = []byte("x")
	s.Apply(c)
	if got := visible(); got != nil {
		t.Errorf("a facet without a value shows %q", got)
	}
	e := remote(2, 2, testStart, "k", "v")
	e.Entry.Flags, e.Entry.ExpiresAt = kv.HasExpiry, testStart+5_000
	s.Apply(e)
	if got := visible(); !slices.Equal(got, []string{"=v"}) {
		t.Errorf("a value shows %q", got)
	}
	clock.set(testStart + 6_000)
	if got := visible(); got != nil || len(s.Held([]byte("k"))) != 2 {
		t.Errorf("an expired value shows %q", got)
	}
}

func TestReservedEntriesAreLocalWrites(t *testing.T) {
	s, _ := newStore(t, Options{Instance: 1, MemoryLimit: 1})
	if _, err := s.Set([]byte("k"), nil); !errors.Is(err, kv.ErrStorageFull) {
		t.Fatalf("the limit does not hold: %v", err)
	}
	if existed, _, err := s.DeleteReserved([]byte("mn1")); existed || err != nil {
		t.Fatalf("deleting from an empty store: %v, %v", existed, err)
	}
	for _, value := range []string{"one", "two, which is longer"} {
		if _, err := s.SetReserved([]byte("mn1"), []byte(value)); err != nil {
			t.Fatal(err)
		}
		<-s.Changed()
		if got := facets(s, "")["mn1"]; string(got.Value) != value || got.Version.Instance != 1 {
			t.Fatalf("holds %v, want %q", got, value)
		}
	}
	if st := s.Stats(); s.Len() != 0 || st.Entries != 1 || st.Tombstones != 0 {
		t.Errorf("Len %d, %+v", s.Len(), st)
	}
	if keys, _ := s.Scan(nil, nil, 0); len(keys) != 0 || s.Exists(nil) {
		t.Errorf("readers see %q", keys)
	}
	for i, want := range []bool{true, false} {
		if existed, _, err := s.DeleteReserved([]byte("mn1")); existed != want || err != nil {
			t.Errorf("deletion %d: %v, %v", i, existed, err)
		}
	}
	var told []string
	for _, c := range logged(s) {
		told = append(told, fmt.Sprintf("%d %s %d %s", c.Seq, c.Entry.Facet, c.Entry.Flags, c.Entry.Value))
	}
	if want := []string{"1 mn1 0 one", "2 mn1 0 two, which is longer", "3 mn1 1 "}; !slices.Equal(told, want) {
		t.Errorf("log %q, want %q", told, want)
	}
}

func TestReservedWritesAreRefused(t *testing.T) {
	s, _ := newStore(t, Options{})
	for _, facet := range []string{"", strings.Repeat("f", kv.MaxFacetLen+1), kv.MarkFacet} {
		if _, err := s.SetReserved([]byte(facet), nil); !errors.Is(err, kv.ErrInvalidEntry) {
			t.Errorf("SetReserved(%.10q): %v", facet, err)
		}
		if _, _, err := s.DeleteReserved([]byte(facet)); !errors.Is(err, kv.ErrInvalidEntry) {
			t.Errorf("DeleteReserved(%.10q): %v", facet, err)
		}
	}
	if _, err := s.SetReserved([]byte("m"), make([]byte, kv.MaxValueLen+1)); !errors.Is(err, kv.ErrValueTooLong) {
		t.Errorf("a long value: %v", err)
	}
	if _, err := s.SetReserved([]byte("m"), nil); err != nil {
		t.Fatal(err)
	}
	s.SetReadOnly("test", "it is a test")
	var readOnly *kv.ReadOnlyError
	if _, err := s.SetReserved([]byte("m"), nil); !errors.As(err, &readOnly) {
		t.Errorf("SetReserved: %v", err)
	}
	if _, _, err := s.DeleteReserved([]byte("m")); !errors.As(err, &readOnly) {
		t.Errorf("DeleteReserved: %v", err)
	}
	if _, err := s.Truncate(); !errors.As(err, &readOnly) {
		t.Errorf("Truncate: %v", err)
	}
	if n := len(logged(s)); n != 1 {
		t.Errorf("%d changes logged", n)
	}
}

func TestTruncateHidesWhatWasBefore(t *testing.T) {
	s, clock := newStore(t, Options{Instance: 1, MemoryLimit: 1 << 20})
	for i := range 1000 {
		mustSet(t, s, fmt.Sprintf("k%d", i), "v")
	}
	ahead := remote(2, 1, testStart+testDrift/2, "ahead", "v")
	if got := s.Apply(ahead); got != kv.Applied {
		t.Fatal(got)
	}
	if _, err := s.Truncate(); err != nil {
		t.Fatal(err)
	}
	late := remote(2, 2, testStart, "late", "v") // written before, arrives after
	if got := s.Apply(late); got != kv.Applied {
		t.Fatal(got)
	}
	keys, _ := s.Scan(nil, nil, 0)
	if s.Len() != 0 || len(keys) != 0 || s.Exists([]byte("k1")) || get(s, "ahead") != "(null)" || get(s, "late") != "(null)" {
		t.Fatalf("readers see %d keys, scan %q", s.Len(), keys)
	}
	if existed, _, _ := s.Delete([]byte("k1")); existed {
		t.Error("a dead key can be deleted")
	}
	if value, _, err := s.Append(nil, []byte("k1"), []byte("w")); err != nil || string(value) != "w" {
		t.Errorf("APPEND to a dead key makes %q, %v", value, err)
	}
	mustSet(t, s, "k2", "again")
	if s.Len() != 2 || get(s, "k2") != "again" || get(s, "k3") != "(null)" {
		t.Errorf("Len %d, k2 %q", s.Len(), get(s, "k2"))
	}
	if n := len(facets(s, "k3")); n != 1 {
		t.Errorf("%d entries of a dead key are held", n)
	}
	clock.set(testStart + 1)
	if _, err := s.Truncate(); err != nil || s.Len() != 0 {
		t.Errorf("second truncation: %v, Len %d", err, s.Len())
	}
}

// The mark does on another node what it did here.
func TestTruncateReplicates(t *testing.T) {
	a, _ := newStore(t, Options{Instance: 1})
	b, _ := newStore(t, Options{Instance: 2})
	mustSet(t, b, "own", "v")
	mustSet(t, a, "before", "v")
	if _, err := a.Truncate(); err != nil {
		t.Fatal(err)
	}
	mustSet(t, a, "after", "v")
	changes := logged(a)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	for i := range changes {
		if got := b.Apply(&changes[i]); got != kv.Applied {
			t.Fatalf("%q: %v", changes[i].Entry.Key, got)
		}
	}
	mark := changes[slices.IndexFunc(changes, func(c kv.Change) bool { return c.Entry.IsReserved() })].Entry.Version
	own := facets(b, "own")[""].Version
	if !own.Less(mark) {
		t.Fatalf("own write %v is not before the mark %v", own, mark)
	}
	keys, _ := b.Scan(nil, nil, 0)
	if b.Len() != 1 || len(keys) != 1 || string(keys[0]) != "after" {
		t.Errorf("Len %d, keys %q", b.Len(), keys)
	}
}

// The truth about concurrent writes: what was acknowledged before a truncation
// began is gone when it returns; what begins after it returned is there; and
// nothing that is written meanwhile is made of what was there before.
func TestTruncateAmidWrites(t *testing.T) {
	s, _ := newStore(t, Options{Instance: 1})
	const writers, rounds, keysEach = 4, 60, 40
	for round := range rounds {
		for w := range writers {
			for k := range keysEach {
				mustSet(t, s, fmt.Sprintf("%d:%d", w, k), "old")
			}
		}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for w := range writers {
			wg.Go(func() {
				<-start
				for k := range keysEach {
					if _, _, err := s.Append(nil, fmt.Appendf(nil, "%d:%d", w, k), []byte("+new")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			<-start
			if _, err := s.Truncate(); err != nil {
				t.Error(err)
			}
		})
		close(start)
		wg.Wait()
		seen := 0
		for w := range writers {
			for k := range keysEach {
				switch got := get(s, fmt.Sprintf("%d:%d", w, k)); got {
				case "+new":
					seen++
				case "(null)":
				default:
					t.Fatalf("round %d: a key is %q after the truncation", round, got)
				}
			}
		}
		if keys, _ := s.Scan(nil, nil, 0); s.Len() != seen || len(keys) != seen {
			t.Fatalf("round %d: Len %d, scan %d, %d keys are there", round, s.Len(), len(keys), seen)
		}
		mustSet(t, s, "after", "v")
		if get(s, "after") != "v" {
			t.Fatalf("round %d: a write after the truncation is gone", round)
		}
	}
}

// Marks of others arrive while this node writes: the counts stay those of what
// readers see, and every write from after the mark was merged is visible.
func TestForeignMarksAmidWrites(t *testing.T) {
	s, _ := newStore(t, Options{Instance: 1})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				if _, err := s.Set(fmt.Appendf(nil, "%d:%d", w, i%100), []byte("v")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			mark := kv.Entry{Facet: []byte(kv.MarkFacet), Version: kv.Version{HLC: hlc.At(testStart + int64(i)), Instance: 2}}
			s.Apply(&kv.Change{Origin: 2, Seq: uint64(i + 1), Entry: mark})
			key := fmt.Sprintf("m%d", i)
			mustSet(t, s, key, "v")
			if !s.Exists([]byte(key)) {
				t.Errorf("a write after mark %d is not there", i)
			}
		}
	})
	wg.Wait()
	keys, _ := s.Scan(nil, nil, 0)
	if s.Len() != len(keys) || !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, []byte("m49")) }) {
		t.Errorf("Len %d, scan %d", s.Len(), len(keys))
	}
}
