package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"pgregory.net/rapid"
)

// slotOf returns the bytes that a key's plain value takes, the table aside.
func slotOf(key, value string) int64 {
	return int64(slotSize(recordSize(len(key), 0, len(value), 0)))
}

var (
	small = strings.Repeat("s", 100)
	big   = strings.Repeat("b", 1000)
)

// write is what a client does at the limit, and what that needs.
type write struct {
	do    func(*Store) error
	needs int64 // bytes that what is stored grows by, tables aside; 0 or less is always taken
}

func set(key, value string) func(*Store) error {
	return func(s *Store) error { return second(s.Set([]byte(key), []byte(value))) }
}

func mset(pairs ...string) func(*Store) error {
	return func(s *Store) error {
		var words [][]byte
		for _, w := range pairs {
			words = append(words, []byte(w))
		}
		return second(s.MSet(words))
	}
}

func writesAtTheLimit() map[string]write {
	grow := slotOf("k", big) - slotOf("k", small)
	return map[string]write{
		"a larger value":                      {set("k", big), grow},
		"an equal value":                      {set("k", strings.Repeat("e", len(small))), 0},
		"a smaller value":                     {set("l", small), -grow},
		"the same slot":                       {set("k", small[:len(small)-1]), 0},
		"a deletion":                          {func(s *Store) error { _, _, err := s.Delete([]byte("l")); return err }, -1},
		"an absent key":                       {func(s *Store) error { _, _, err := s.Delete([]byte("none")); return err }, 0},
		"an append":                           {func(s *Store) error { _, _, err := s.Append(nil, []byte("k"), []byte(big)); return err }, slotOf("k", small+big) - slotOf("k", small)},
		"a prepend":                           {func(s *Store) error { _, _, err := s.Prepend(nil, []byte("k"), []byte(big)); return err }, slotOf("k", small+big) - slotOf("k", small)},
		"an empty append":                     {func(s *Store) error { _, _, err := s.Append(nil, []byte("k"), nil); return err }, 0},
		"pairs that grow":                     {mset("k", big, "l", big), grow},
		"pairs that trade":                    {mset("k", big, "l", small), 0},
		"pairs that trade in the other order": {mset("l", small, "k", big), 0},
		"pairs that shrink":                   {mset("l", small, "k", small), -grow},
		"the last of a pair counts":           {mset("k", big, "k", small), 0},
		"and grows by it alone":               {mset("k", "", "k", "", "k", big), grow},
		"a member":                            {func(s *Store) error { return second(s.SetReserved([]byte("mn1"), []byte(big))) }, 0},
		"a truncation":                        {func(s *Store) error { return second(s.Truncate()) }, 0},
	}
}

// prepared is a store with a small and a big value and room in the shards' tables,
// and no limit yet.
func prepared(t *testing.T) *Store {
	t.Helper()
	s, _ := newStore(t, Options{Instance: 1})
	mustSet(t, s, "k", small)
	mustSet(t, s, "l", big)
	sh, _ := s.locate(nil)
	if err := s.reserve(sh, 2); err != nil {
		t.Fatal(err)
	}
	return s
}

// A write is refused when it ends one byte above the limit, and taken when it ends
// at the limit; what grows nothing is taken however far above the limit others have
// brought the store.
func TestWritesAtTheExactByte(t *testing.T) {
	for name, w := range writesAtTheLimit() {
		t.Run(name, func(t *testing.T) {
			s := prepared(t)
			s.SetMemoryLimit(s.MemoryUsed() + w.needs - 1)
			if w.needs <= 0 {
				s.SetMemoryLimit(1)
			} else {
				refused(t, s, w)
				s.SetMemoryLimit(s.MemoryUsed() + w.needs)
			}
			if err := w.do(s); err != nil {
				t.Errorf("refused with %v at %d of %d bytes", err, s.MemoryUsed(), s.Stats().Limit)
			}
			if st := s.Stats(); w.needs > 0 && st.Used != st.Limit {
				t.Errorf("%d bytes used, want %d", st.Used, st.Limit)
			}
		})
	}
}

// refused does a write that does not fit and checks that it changed nothing.
func refused(t *testing.T, s *Store, w write) {
	t.Helper()
	before, dump, seq := s.Stats(), dumpOf(s), len(logged(s))
	if err := w.do(s); !errors.Is(err, kv.ErrStorageFull) {
		t.Errorf("one byte too much gives %v", err)
	}
	if after := s.Stats(); after != before || dumpOf(s) != dump || len(logged(s)) != seq {
		t.Errorf("a refused write left something: %+v, before %+v", after, before)
	}
}

func dumpOf(s *Store) string {
	var b strings.Builder
	s.Dump(func(e *kv.Entry) bool {
		fmt.Fprintf(&b, "%q/%q %v %q\n", e.Key, e.Facet, e.Version, e.Value)
		return true
	})
	return b.String()
}

// A key that is new may make a table grow: that belongs to the write.
func TestATableThatGrowsBelongsToTheWrite(t *testing.T) {
	for name, do := range map[string]func(*Store, string) error{
		"SET":    func(s *Store, key string) error { return set(key, small)(s) },
		"MSET":   func(s *Store, key string) error { return mset(key, small)(s) },
		"APPEND": func(s *Store, key string) error { _, _, err := s.Append(nil, []byte(key), []byte(small)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t, Options{})
			grew := 0
			for i := range 1000 {
				key := fmt.Sprintf("key%04d", i)
				sh, _ := s.locate([]byte(key))
				table := sh.table.growth(1)
				w := write{func(s *Store) error { return do(s, key) }, table + slotOf(key, small)}
				if table > 0 {
					grew++
					s.SetMemoryLimit(s.MemoryUsed() + w.needs - 1)
					refused(t, s, w)
					for j := range i { // keys that are there need no room in the table
						old := fmt.Sprintf("key%04d", j)
						if other, _ := s.locate([]byte(old)); name == "APPEND" || other != sh {
							continue
						}
						if err := do(s, old); err != nil {
							t.Fatalf("key %d of %d cannot be written again: %v", j, i, err)
						}
					}
				}
				s.SetMemoryLimit(s.MemoryUsed() + w.needs)
				if err := w.do(s); err != nil || s.MemoryUsed() != s.Stats().Limit {
					t.Fatalf("key %d: %v with %d of %d bytes used", i, err, s.MemoryUsed(), s.Stats().Limit)
				}
			}
			if grew < numShards {
				t.Errorf("tables grew %d times", grew)
			}
		})
	}
}

// What other nodes wrote is taken whatever the limit, and counted.
func TestEntriesOfOthersAreTakenBeyondTheLimit(t *testing.T) {
	s := prepared(t)
	s.SetMemoryLimit(s.MemoryUsed() + slotOf("k", big) - slotOf("k", small))
	for i, step := range []struct {
		key, value string
		excess     int64
	}{
		{"k", big, 0},   // fits to the byte
		{"l", small, 0}, // shrinks
		{"l", big, 0},   // fits again
		{"m", small, 1}, // does not
		{"m", small, 1}, // is no larger
		{"l", big + big, 2},
		{"l", "", 2}, // shrinks, but not enough
		{"n", big, 3},
	} {
		if got := s.Apply(remote(7, uint64(i+1), testStart+int64(i+1), step.key, step.value)); got != kv.Applied {
			t.Fatalf("step %d: %v", i, got)
		}
		if got := s.Stats().Excess; got != step.excess || get(s, step.key) != step.value {
			t.Errorf("step %d: %d entries beyond the limit counted, want %d", i, got, step.excess)
		}
	}
	s.Apply(remote(7, 9, testStart+9, "p", big+big))
	if err := set("n", small)(s); err != nil {
		t.Errorf("a smaller value far above the limit: %v", err)
	}
	if err := set("o", "")(s); !errors.Is(err, kv.ErrStorageFull) {
		t.Errorf("a new key above the limit: %v", err)
	}
}

// Whatever clients write, they never bring a store above its limit, and what the
// store counts is what its records and tables take.
func TestClientsNeverExceedTheLimit(t *testing.T) {
	const limit = 10 << 10
	full := 0
	rapid.Check(t, func(t *rapid.T) {
		s, err := New(Options{Clock: hlc.NewClock((&manualTime{millis: testStart}).now, testDrift), MemoryLimit: limit})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range rapid.IntRange(10, 80).Draw(t, "writes") {
			switch err := anyWrite(t)(s); {
			case errors.Is(err, kv.ErrStorageFull):
				full++
			case err != nil:
				t.Fatal(err)
			}
			if used := s.MemoryUsed(); used > limit || used != counted(s) {
				t.Fatalf("%d bytes used, %d counted, the limit is %d", used, counted(s), limit)
			}
		}
	})
	t.Logf("%d writes were refused", full)
	if full == 0 {
		t.Error("no write was refused: this tests nothing")
	}
}

// anyWrite draws what a client may do.
func anyWrite(t *rapid.T) func(*Store) error {
	key := func() string { return fmt.Sprintf("key%d", rapid.IntRange(0, 60).Draw(t, "key")) }
	value := func() string {
		return strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 90, 700, 1500}).Draw(t, "size"))
	}
	k, v := key(), value()
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return set(k, v)
	case 1:
		return func(s *Store) error { _, _, err := s.Delete([]byte(k)); return err }
	case 2:
		return func(s *Store) error { _, _, err := s.Append(nil, []byte(k), []byte(v)); return err }
	}
	pairs := []string{k, v}
	for range rapid.IntRange(0, 5).Draw(t, "pairs") {
		pairs = append(pairs, key(), value())
	}
	return mset(pairs...)
}

// counted adds up what MemoryUsed should be.
func counted(s *Store) (bytes int64) {
	for i := range s.shards {
		bytes += s.shards[i].table.bytes()
	}
	s.Dump(func(e *kv.Entry) bool {
		bytes += int64(slotSize(entrySize(e)))
		return true
	})
	return bytes
}
