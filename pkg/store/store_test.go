package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manualTime is a physical clock that a test sets.
type manualTime struct {
	mu     sync.Mutex
	millis int64
}

func (m *manualTime) now() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.millis
}

func (m *manualTime) set(millis int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.millis = millis
}

const (
	testStart = int64(1_700_000_000_000)
	testDrift = int64(60_000)
)

func newStore(t testing.TB, o Options) (*Store, *manualTime) {
	t.Helper()
	clock := &manualTime{millis: testStart}
	if o.Clock == nil {
		o.Clock = hlc.NewClock(clock.now, testDrift)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, clock
}

func mustSet(t testing.TB, s *Store, key, value string) {
	t.Helper()
	if _, err := s.Set([]byte(key), []byte(value)); err != nil {
		t.Fatalf("Set(%q): %v", key, err)
	}
}

func get(s *Store, key string) string {
	value, ok := s.Get(nil, []byte(key))
	if !ok {
		return "(null)"
	}
	return string(value)
}

func remote(instance, seq uint64, millis int64, key, value string) *kv.Change {
	e := kv.Entry{Key: []byte(key), Value: []byte(value), Version: kv.Version{HLC: hlc.At(millis), Instance: instance}}
	return &kv.Change{Origin: instance, Seq: seq, Entry: e}
}

func logged(s *Store) (changes []kv.Change) {
	s.ReadLog(0, 1<<30, func(c *kv.Change) bool {
		changes = append(changes, kv.Change{Origin: c.Origin, Seq: c.Seq, Entry: c.Entry.Clone()})
		return true
	})
	return changes
}

func TestBasicOperations(t *testing.T) {
	s, _ := newStore(t, Options{})
	if got := get(s, "k"); got != "(null)" {
		t.Fatalf("absent key reads %q", got)
	}
	mustSet(t, s, "k", "v")
	mustSet(t, s, "empty", "")
	if got := get(s, "k"); got != "v" {
		t.Fatalf("k = %q", got)
	}
	if got := get(s, "empty"); got != "" || !s.Exists([]byte("empty")) {
		t.Fatalf("an empty value reads %q", got)
	}
	value, _, err := s.Append([]byte("dst:"), []byte("k"), []byte("w"))
	if err != nil || string(value) != "dst:vw" {
		t.Fatalf("Append = %q, %v", value, err)
	}
	if value, _, err = s.Prepend(nil, []byte("new"), []byte("x")); err != nil || string(value) != "x" {
		t.Fatalf("Prepend to an absent key = %q, %v", value, err)
	}
	if s.Len() != 3 {
		t.Fatalf("Len = %d, want 3", s.Len())
	}
	for i, want := range []bool{true, false} {
		if existed, _, err := s.Delete([]byte("k")); err != nil || existed != want {
			t.Fatalf("Delete number %d = %v, %v", i, existed, err)
		}
	}
	if got := get(s, "k"); got != "(null)" || s.Len() != 2 || s.Stats().Tombstones != 1 {
		t.Fatalf("after DEL: %q, Len %d, %+v", got, s.Len(), s.Stats())
	}
}

func TestRefusals(t *testing.T) {
	s, clock := newStore(t, Options{})
	long := bytes.Repeat([]byte("k"), kv.MaxKeyLen+1)
	var readOnly *kv.ReadOnlyError
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"empty key":  {second(s.Set(nil, nil)), kv.ErrInvalidKey},
		"long key":   {second(s.Set(long, nil)), kv.ErrKeyTooLong},
		"long value": {second(s.Set([]byte("k"), make([]byte, kv.MaxValueLen+1))), kv.ErrValueTooLong},
		"mset":       {second(s.MSet([][]byte{[]byte("a"), nil, long, nil})), kv.ErrKeyTooLong},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	mustSet(t, s, "k", strings.Repeat("x", kv.MaxValueLen))
	if _, _, err := s.Append(nil, []byte("k"), []byte("y")); !errors.Is(err, kv.ErrValueTooLong) {
		t.Errorf("Append beyond the limit: %v", err)
	}
	s.SetReadOnly("rival", "stepping down")
	if _, _, err := s.Delete([]byte("k")); !errors.As(err, &readOnly) || readOnly.Why != "stepping down" {
		t.Errorf("write while read only: %v", err)
	}
	s.SetReadOnly("rival", "")
	clock.set(testStart - testDrift - 30_000)
	if _, err := s.Set([]byte("k"), nil); !errors.As(err, &readOnly) || readOnly.Why != "clock ahead by 1m30s" {
		t.Errorf("write with a clock that ran ahead: %v", err)
	}
	if got := len(get(s, "k")); got != kv.MaxValueLen || s.Len() != 1 {
		t.Errorf("refused writes left %d bytes under %d keys", got, s.Len())
	}
}

func second[T any](_ T, err error) error { return err }

func TestMemoryLimit(t *testing.T) {
	s, _ := newStore(t, Options{MemoryLimit: 64 << 10})
	value := strings.Repeat("v", 1000)
	n := 0
	for ; ; n++ {
		if _, err := s.Set(fmt.Appendf(nil, "key%d", n), []byte(value)); err != nil {
			if !errors.Is(err, kv.ErrStorageFull) {
				t.Fatal(err)
			}
			break
		}
	}
	// The refused write may have made a table grow.
	if s.MemoryUsed() > 66<<10 || n < 50 {
		t.Fatalf("full after %d keys with %d bytes used", n, s.MemoryUsed())
	}
	if _, err := s.MSet([][]byte{[]byte("key0"), []byte("small"), []byte("more"), []byte(strings.Repeat(value, 10))}); !errors.Is(err, kv.ErrStorageFull) {
		t.Fatalf("MSet over the limit: %v", err)
	}
	if got := get(s, "key0"); got != value {
		t.Fatalf("a refused MSet wrote %q", got)
	}
	mustSet(t, s, "key0", "shrinks")
	for i := 1; i < 6; i++ {
		if existed, _, err := s.Delete(fmt.Appendf(nil, "key%d", i)); err != nil || !existed {
			t.Fatalf("Delete of a full store: %v", err)
		}
	}
	if got := s.Apply(remote(7, 1, testStart, "remote", value+value)); got != kv.Applied {
		t.Fatalf("a replicated entry was %v by a full store", got)
	}
	mustSet(t, s, "fits again", "x")
}

func TestMSetIsSeenAsAWhole(t *testing.T) {
	s, _ := newStore(t, Options{})
	keys := []string{"a", "b", "c", "d", "e"}
	set := func(value string) {
		var pairs [][]byte
		for _, k := range keys {
			pairs = append(pairs, []byte(k), []byte(value))
		}
		if _, err := s.MSet(pairs); err != nil {
			t.Error(err)
		}
	}
	set("0000")
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 2000 {
			set(fmt.Sprintf("%04d", i))
		}
	})
	for range 2000 {
		// MSET goes up only: a later read of another key is never older.
		first := get(s, keys[0])
		if last := get(s, keys[len(keys)-1]); last < first {
			t.Fatalf("read %s and then %s", first, last)
		}
	}
	wg.Wait()
	if _, err := s.MSet([][]byte{[]byte("a"), []byte("1"), []byte("a"), []byte("2")}); err != nil || get(s, "a") != "2" {
		t.Fatalf("of a key set twice the last value counts, got %q, %v", get(s, "a"), err)
	}
}

// Sequence order is version order is log order, with many writers at once.
func TestSequenceOrderIsStampOrder(t *testing.T) {
	s, _ := newStore(t, Options{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				mustSet(t, s, fmt.Sprintf("%d/%d", w, i%50), "v")
				if i%10 == 0 {
					_, _, _ = s.Delete(fmt.Appendf(nil, "%d/%d", w, i%50))
				}
			}
		})
	}
	wg.Wait()
	changes := logged(s)
	for i, c := range changes {
		if c.Seq != uint64(i+1) || c.Origin != s.Instance() {
			t.Fatalf("change %d has sequence %d of %x", i, c.Seq, c.Origin)
		}
		if i > 0 && !changes[i-1].Entry.Version.Less(c.Entry.Version) {
			t.Fatalf("change %d has version %v after %v", i, c.Entry.Version, changes[i-1].Entry.Version)
		}
	}
	if seq, clock := s.LastSeq(); seq != uint64(len(changes)) || clock != changes[len(changes)-1].Entry.Version.HLC {
		t.Fatalf("LastSeq = %d, %v", seq, clock)
	}
	if s.Greatest() != changes[len(changes)-1].Entry.Version {
		t.Fatalf("Greatest = %v", s.Greatest())
	}
}

func TestApply(t *testing.T) {
	s, clock := newStore(t, Options{})
	steps := []struct {
		name   string
		change *kv.Change
		want   kv.Outcome
		value  string
	}{
		{"new", remote(7, 1, testStart, "k", "one"), kv.Applied, "one"},
		{"again", remote(7, 1, testStart, "k", "one"), kv.Known, "one"},
		{"newer", remote(7, 2, testStart+5, "k", "two"), kv.Applied, "two"},
		{"older", remote(8, 1, testStart+4, "k", "late"), kv.Lost, "two"},
		{"same time, greater instance", remote(9, 1, testStart+5, "k", "nine"), kv.Applied, "nine"},
		{"too far ahead", remote(9, 2, testStart+testDrift+1, "k", "future"), kv.Deferred, "nine"},
		{"just allowed", remote(9, 2, testStart+testDrift, "k", "edge"), kv.Applied, "edge"},
	}
	for _, step := range steps {
		if got := s.Apply(step.change); got != step.want || get(s, "k") != step.value {
			t.Errorf("%s: %v and %q, want %v and %q", step.name, got, get(s, "k"), step.want, step.value)
		}
	}
	select {
	case <-s.Changed():
		t.Error("a remote change was announced")
	default:
	}
	clock.set(testStart + 1000)
	mustSet(t, s, "k", "local") // beats what it replaces, though that is from the future
	if get(s, "k") != "local" {
		t.Errorf("k = %q", get(s, "k"))
	}
	var seqs []string
	for _, c := range logged(s) {
		seqs = append(seqs, fmt.Sprintf("%x/%d=%s", c.Origin, c.Seq, c.Entry.Value))
	}
	want := fmt.Sprintf("[7/1=one 7/1=one 7/2=two 8/1=late 9/1=nine 9/2=edge %x/1=local]", s.Instance())
	if got := fmt.Sprint(seqs); got != want {
		t.Errorf("log %s\nwant %s", got, want)
	}
}

func TestTieOfVersionsIsCountedAndBroken(t *testing.T) {
	one, _ := newStore(t, Options{})
	two, _ := newStore(t, Options{})
	a, b := remote(7, 1, testStart, "k", "a"), remote(7, 1, testStart, "k", "b")
	one.Apply(a)
	one.Apply(b)
	two.Apply(b)
	two.Apply(a)
	if get(one, "k") != get(two, "k") {
		t.Errorf("two orders of arrival show %q and %q", get(one, "k"), get(two, "k"))
	}
	if one.Stats().Ties != 1 || two.Stats().Ties != 1 {
		t.Errorf("ties counted: %d and %d", one.Stats().Ties, two.Stats().Ties)
	}
}

func TestFacetsAndReservedEntriesAreKeptAndNotShown(t *testing.T) {
	s, _ := newStore(t, Options{})
	facet := remote(7, 1, testStart, "k", "contribution")
	facet.Entry.Facet = []byte("c|writer")
	member := remote(7, 2, testStart, "", "address")
	member.Entry.Facet = []byte("m|node9")
	for _, c := range []*kv.Change{facet, member} {
		if s.Apply(c) != kv.Applied {
			t.Fatalf("%q not applied", c.Entry.Facet)
		}
	}
	if s.Exists([]byte("k")) || s.Exists(nil) || s.Len() != 0 {
		t.Fatal("a facet alone, or a reserved entry, is shown as a key")
	}
	mustSet(t, s, "k", "base")
	second := remote(8, 1, testStart+1, "k", "more")
	second.Entry.Facet = []byte("c|other")
	s.Apply(second)
	mustSet(t, s, "k", "base2")
	newer := remote(7, 3, testStart+9, "k", "contribution2")
	newer.Entry.Facet = facet.Entry.Facet
	s.Apply(newer)
	if got := get(s, "k"); got != "base2" || s.Len() != 1 {
		t.Fatalf("k = %q among %d keys", got, s.Len())
	}
	var all []string
	s.Dump(func(e *kv.Entry) bool {
		all = append(all, fmt.Sprintf("%s/%s=%s", e.Key, e.Facet, e.Value))
		return true
	})
	slices.Sort(all)
	if got, want := fmt.Sprint(all), "[/m|node9=address k/=base2 k/c|other=more k/c|writer=contribution2]"; got != want {
		t.Fatalf("dump %s\nwant %s", got, want)
	}
	if s.Stats().Entries != 4 {
		t.Fatalf("%d entries counted", s.Stats().Entries)
	}
}

func TestTruncationMarkHidesWhatIsOlder(t *testing.T) {
	s, _ := newStore(t, Options{})
	s.Apply(remote(7, 1, testStart, "old", "x"))
	mark := remote(7, 2, testStart+10, "", "")
	mark.Entry.Facet = []byte(kv.MarkFacet)
	s.Apply(mark)
	s.Apply(remote(8, 1, testStart+5, "late", "x"))
	s.Apply(remote(8, 2, testStart+15, "new", "x"))
	if keys, _ := s.Scan(nil, nil, 0); fmt.Sprintf("%s", keys) != "[new]" || s.Len() != 1 {
		t.Fatalf("after the mark: %s, Len %d", keys, s.Len())
	}
}

func TestExpiredKeysAreNotShown(t *testing.T) {
	s, clock := newStore(t, Options{})
	c := remote(7, 1, testStart, "k", "v")
	c.Entry.Flags, c.Entry.ExpiresAt = kv.HasExpiry, testStart+1000
	s.Apply(c)
	if get(s, "k") != "v" {
		t.Fatal("the key is gone before its time")
	}
	if _, _, err := s.Append(nil, []byte("k"), []byte("w")); err != nil || get(s, "k") != "vw" {
		t.Fatalf("Append: %v, k = %q", err, get(s, "k"))
	}
	clock.set(testStart + 1000)
	if get(s, "k") != "(null)" {
		t.Fatal("the key is there after its time: APPEND lost the expiry")
	}
	if existed, _, err := s.Delete([]byte("k")); existed || err != nil {
		t.Fatalf("Delete of an expired key: %v, %v", existed, err)
	}
	clock.set(testStart) // the wall clock goes back, the clock does not
	mustSet(t, s, "other", "x")
	if get(s, "k") != "(null)" {
		t.Fatal("an expired key came back with the wall clock")
	}
}

func TestScan(t *testing.T) {
	s, _ := newStore(t, Options{})
	var want []string
	for i := range 3000 {
		key := fmt.Sprintf("user:%04d", i)
		mustSet(t, s, key, "v")
		want = append(want, key)
		mustSet(t, s, fmt.Sprintf("other:%d", i), "v")
	}
	_, _, _ = s.Delete([]byte("user:0007"))
	want = slices.Delete(want, 7, 8)
	keys, more := s.Scan([]byte("user:"), nil, 0)
	if more || !slices.EqualFunc(keys, want, func(k []byte, w string) bool { return string(k) == w }) {
		t.Fatalf("Scan found %d keys, want %d in order", len(keys), len(want))
	}
	var paged []string
	for after, more := []byte(nil), true; more; {
		keys, more = s.Scan([]byte("user:"), after, 333)
		for _, k := range keys {
			paged = append(paged, string(k))
		}
		after = keys[len(keys)-1]
	}
	if !slices.Equal(paged, want) {
		t.Fatalf("pages hold %d keys, want %d", len(paged), len(want))
	}
}

// A dump that runs while tables grow sees every key that was there all along,
// and each of them once.
func TestDumpDuringWrites(t *testing.T) {
	s, _ := newStore(t, Options{})
	for i := range 2000 {
		mustSet(t, s, fmt.Sprintf("old%d", i), "v")
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				mustSet(t, s, fmt.Sprintf("new%d", i%50_000), "v")
			}
		}
	})
	for range 10 {
		seen := make(map[string]int)
		s.Dump(func(e *kv.Entry) bool {
			seen[string(e.Key)]++
			return true
		})
		for i := range 2000 {
			if n := seen[fmt.Sprintf("old%d", i)]; n != 1 {
				t.Errorf("old%d was dumped %d times", i, n)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// A store under any mix of operations reads like a map, and its log replayed
// into another store makes an equal one.
func TestStoreAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := &manualTime{millis: testStart}
		s, err := New(Options{Clock: hlc.NewClock(clock.now, testDrift), RingBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		model := make(map[string]string)
		key := rapid.SampledFrom([]string{"a", "b", "ab", "a\x00", "\xff", "c"})
		value := rapid.OneOf(rapid.StringN(0, 20, -1), rapid.Just(strings.Repeat("long", 2_000)))
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), value.Draw(t, "v")
				if _, err := s.Set([]byte(k), []byte(v)); err != nil {
					t.Fatal(err)
				}
				model[k] = v
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "k")
				_, want := model[k]
				if existed, _, err := s.Delete([]byte(k)); err != nil || existed != want {
					t.Fatalf("Delete(%q) = %v, %v, want %v", k, existed, err, want)
				}
				delete(model, k)
			},
			"append": func(t *rapid.T) {
				k := key.Draw(t, "k")
				model[k] += "+"
				if got, _, err := s.Append(nil, []byte(k), []byte("+")); err != nil || string(got) != model[k] {
					t.Fatalf("Append(%q): %v", k, err)
				}
			},
			"time": func(t *rapid.T) { clock.set(clock.now() + rapid.Int64Range(-5, 5).Draw(t, "ms")) },
			"": func(t *rapid.T) {
				for _, k := range []string{"a", "b", "ab", "a\x00", "\xff", "c"} {
					got, ok := s.Get(nil, []byte(k))
					if want, wanted := model[k]; ok != wanted || string(got) != want {
						t.Fatalf("Get(%q) = %d bytes, %v; want %d bytes, %v", k, len(got), ok, len(want), wanted)
					}
				}
				if s.Len() != len(model) {
					t.Fatalf("Len = %d, want %d", s.Len(), len(model))
				}
			},
		})
		replica, err := New(Options{Clock: hlc.NewClock(clock.now, testDrift)})
		if err != nil {
			t.Fatal(err)
		}
		defer replica.Close()
		changes := rapid.Permutation(logged(s)).Draw(t, "order")
		for i := range changes {
			replica.Apply(&changes[i])
		}
		if a, b := dump(s), dump(replica); a != b {
			t.Fatalf("a replica of the log differs:\n%.300s\n%.300s", a, b)
		}
	})
}

func dump(s *Store) string {
	var all []string
	s.Dump(func(e *kv.Entry) bool {
		all = append(all, fmt.Sprintf("%q/%q %v %d %d %q", e.Key, e.Facet, e.Version, e.Flags, e.ExpiresAt, e.Value))
		return true
	})
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func TestReadsDoNotAllocate(t *testing.T) {
	s, _ := newStore(t, Options{})
	key := []byte("key")
	mustSet(t, s, "key", "value")
	s.Apply(remote(7, 1, testStart, "remote", "value"))
	dst := make([]byte, 0, 64)
	for _, k := range [][]byte{key, []byte("remote"), []byte("absent")} {
		if n := testing.AllocsPerRun(1000, func() { dst, _ = s.Get(dst[:0], k) }); n != 0 {
			t.Errorf("Get(%s) allocates %v times", k, n)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = s.Set(key, []byte("value")) }); n != 0 {
		t.Errorf("Set allocates %v times", n)
	}
}

// book is a journal that keeps what it is given.
type book struct {
	journal.Memory
	mu      sync.Mutex
	changes []kv.Change
}

func (b *book) Append(c *kv.Change) journal.Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = append(b.changes, kv.Change{Origin: c.Origin, Seq: c.Seq, Entry: c.Entry.Clone()})
	return journal.Ticket(len(b.changes))
}

func (b *book) Load(fn func(*kv.Entry) error) error {
	for i := range b.changes {
		if err := fn(&b.changes[i].Entry); err != nil {
			return err
		}
	}
	return nil
}

func TestJournalGetsEveryChangeAndGivesItBack(t *testing.T) {
	j := new(book)
	s, clock := newStore(t, Options{Journal: j})
	mustSet(t, s, "k", "old")
	mustSet(t, s, "k", "new")
	s.Apply(remote(7, 3, testStart+5_000, "remote", "value"))
	s.Apply(remote(8, 1, testStart-5, "k", "loser"))
	ticket, err := s.MSet([][]byte{[]byte("a"), []byte("1"), []byte("b"), []byte("2")})
	if _, _, err := s.Delete([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err != nil || ticket != 5 || len(j.changes) != 6 { // the one that lost is not kept
		t.Fatalf("MSet has ticket %d, %v; the journal has %d changes", ticket, err, len(j.changes))
	}
	if c := j.changes[2]; c.Origin != 7 || c.Seq != 3 {
		t.Fatalf("a remote change is journalled as %d of %d", c.Seq, c.Origin)
	}
	clock.set(testStart - 2*testDrift) // what this node accepted once, it accepts again
	again, _ := newStore(t, Options{Journal: j, Clock: hlc.NewClock(clock.now, testDrift)})
	if got, want := dump(again), dump(s); got != want {
		t.Fatalf("loaded:\n%s\nwant:\n%s", got, want)
	}
	if len(j.changes) != 6 {
		t.Fatalf("loading journalled again: %d changes", len(j.changes))
	}
}
