package store

import (
	"fmt"
	"testing"

	"merklekv/pkg/kv"
)

func TestRingForgetsTheOldestAndSaysSo(t *testing.T) {
	s, _ := newStore(t, Options{RingBytes: 10_000})
	for i := range 1000 {
		mustSet(t, s, fmt.Sprintf("key%04d", i), "0123456789")
	}
	changes := logged(s)
	st := s.Stats()
	if len(changes) == 0 || len(changes) > 250 || st.LogBytes > 10_100 {
		t.Fatalf("ring of 10,000 bytes holds %d changes, %d bytes", len(changes), st.LogBytes)
	}
	if floor := s.LogFloor(s.Instance()); floor != changes[0].Seq {
		t.Fatalf("floor %d, oldest change in the ring %d", floor, changes[0].Seq)
	}
	if _, lost := s.ReadLog(0, 1, func(*kv.Change) bool { return true }); !lost {
		t.Error("reading from a forgotten position did not say so")
	}
	head := s.LogHead()
	if next, lost := s.ReadLog(head, 1, func(*kv.Change) bool { return true }); lost || next != head {
		t.Errorf("reading at the head: next %d, lost %v", next, lost)
	}
	if floor := s.LogFloor(12345); floor != 1 {
		t.Errorf("floor of an unknown origin is %d, want 1", floor)
	}
	s.RaiseLogFloor(12345, 77)
	if floor := s.LogFloor(12345); floor != 78 {
		t.Errorf("floor after adopting 77 is %d", floor)
	}
}

// An entry that came with a full copy and then again with its number must be
// found under that number, or a peer would never get it from here.
func TestKnownEntryIsLoggedUnderItsNumber(t *testing.T) {
	s, _ := newStore(t, Options{})
	s.Apply(remote(7, 0, testStart, "k", "v"))
	if got := s.Apply(remote(7, 3, testStart, "k", "v")); got != kv.Known {
		t.Fatalf("the same entry again was %v", got)
	}
	changes := logged(s)
	if last := changes[len(changes)-1]; last.Seq != 3 || string(last.Entry.Value) != "v" {
		t.Fatalf("the log ends with %d %q", last.Seq, last.Entry.Value)
	}
}

// The dirty log takes every entry, losers included, and nothing that it still
// mentions is overwritten, however far the ring has moved on.
func TestDirtyReaderSeesEverythingIntact(t *testing.T) {
	s, _ := newStore(t, Options{RingBytes: 2_000})
	reader := s.NewDirtyReader()
	want := make(map[string]bool)
	for i := range 3000 {
		value := fmt.Sprintf("value-%d", i)
		mustSet(t, s, fmt.Sprintf("key%d", i%7), value)
		want[value] = true
		loser := fmt.Sprintf("loser-%d", i)
		if got := s.Apply(remote(7, uint64(i+1), testStart-1000, "key0", loser)); got != kv.Lost {
			t.Fatalf("an older entry was %v", got)
		}
		want[loser] = true
	}
	if st := s.Stats(); st.LogChanges != 6000 {
		t.Fatalf("the log holds %d changes for a reader that read none of 6000", st.LogChanges)
	}
	for reader.Read(100, func(c *kv.Change) {
		if !want[string(c.Entry.Value)] {
			t.Errorf("unexpected or repeated %q", c.Entry.Value)
		}
		delete(want, string(c.Entry.Value))
	}) > 0 {
	}
	if len(want) != 0 {
		t.Fatalf("%d changes were never read", len(want))
	}
	reader.Close()
	for i := range 6000 { // each append forgets two
		mustSet(t, s, "key", fmt.Sprint(i))
	}
	if st := s.Stats(); st.LogBytes > 2_100 || st.Quarantine > 2_100 {
		t.Fatalf("after the reader closed the log still holds %d bytes, quarantine %d", st.LogBytes, st.Quarantine)
	}
}

func TestOverwritesDoNotGrowMemory(t *testing.T) {
	s, _ := newStore(t, Options{RingBytes: 100_000})
	write := func() {
		for i := range 20_000 {
			mustSet(t, s, fmt.Sprintf("key%d", i%100), "some value of a usual size")
		}
	}
	write()
	before := s.Stats()
	for range 5 {
		write()
	}
	if after := s.Stats(); after.Mapped != before.Mapped || after.Used != before.Used {
		t.Fatalf("overwriting the same keys grew memory from %+v to %+v", before, after)
	}
}
