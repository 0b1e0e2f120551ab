package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
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
	s.RaiseLogFloor(12345, 77, hlc.At(testStart))
	if floor := s.LogFloor(12345); floor != 78 {
		t.Errorf("floor after adopting 77 is %d", floor)
	}
}

// diary is a journal that writes down in which order it is told what.
type diary struct {
	journal.Memory
	lines []string
}

func (d *diary) Append(c *kv.Change) journal.Ticket {
	d.lines = append(d.lines, fmt.Sprintf("append %d/%d %s", c.Origin, c.Seq, c.Entry.Value))
	return 0
}

func (d *diary) Note(origin, seq uint64, _ hlc.Timestamp) journal.Ticket {
	d.lines = append(d.lines, fmt.Sprintf("note %d/%d", origin, seq))
	return 0
}

func (d *diary) Vouch(m journal.Mark) journal.Ticket {
	d.lines = append(d.lines, fmt.Sprintf("vouch %d/%d at %d", m.Origin, m.Seq, m.Stamp.Millis()))
	return 0
}

// What was taken over is vouched for after all that it stands for, so no crash
// leaves a journal that claims what it does not hold; and what lost never takes the
// place of what won.
func TestJournalIsToldEntriesFirst(t *testing.T) {
	d := new(diary)
	s, _ := newStore(t, Options{Journal: d})
	s.Apply(remote(7, 0, testStart, "a", "won"))
	s.Apply(remote(8, 4, testStart-5, "a", "lost"))
	s.Apply(remote(8, 0, testStart-9, "a", "lost without a place"))
	s.Apply(remote(7, 0, testStart+1, "b", "too"))
	s.RaiseLogFloor(7, 12, hlc.At(testStart+1))
	want := []string{"append 7/0 won", "note 8/4", "append 7/0 too", fmt.Sprintf("vouch 7/12 at %d", testStart+1)}
	if !slices.Equal(d.lines, want) {
		t.Fatalf("the journal was told\n%q, want\n%q", d.lines, want)
	}
	if floor := s.LogFloor(7); floor != 13 {
		t.Fatalf("floor %d", floor)
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
	for reader.Read(100, func(c *kv.Logged) {
		if loser := strings.HasPrefix(string(c.Entry.Value), "loser"); c.Lost != loser {
			t.Errorf("%s: lost %v", c.Entry.Value, c.Lost)
		}
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
	for i := range 6000 {
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

// Whatever sizes follow each other, what the log refers to and keeps in
// quarantine stays near its limit, with no more than the last few changes over.
func TestQuarantineIsBoundedForAllSizes(t *testing.T) {
	const ring, large = 1 << 20, 1 << 18
	steps := map[string]func(*Store, int){
		"one large key overwritten": func(s *Store, i int) {
			mustSet(t, s, "large", strings.Repeat("x", large+i))
		},
		"large values replaced by small ones": func(s *Store, i int) {
			mustSet(t, s, fmt.Sprintf("old%d", i), "small")
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t, Options{RingBytes: ring})
			for i := range 200 {
				mustSet(t, s, fmt.Sprintf("old%d", i), strings.Repeat("x", large))
			}
			for i := range 20_000 {
				mustSet(t, s, fmt.Sprintf("key%d", i), "a small value")
			}
			for i := range 200 {
				step(s, i)
				if st := s.Stats(); st.Quarantine > ring+4*large || st.LogBytes > ring+4*large {
					t.Fatalf("after %d steps %d bytes are in quarantine, the log refers to %d", i, st.Quarantine, st.LogBytes)
				}
			}
		})
	}
}

func TestTooManyInstancesAreRefused(t *testing.T) {
	s, _ := newStore(t, Options{})
	for i := range maxInstances - 1 {
		if _, ok := s.log.intern(uint64(i) + 1_000); !ok {
			t.Fatalf("instance %d is refused", i)
		}
	}
	if got := s.Apply(remote(7, 1, testStart, "k", "v")); got != kv.Deferred || s.Exists([]byte("k")) {
		t.Fatalf("an entry of one instance too many was %v", got)
	}
	if got := s.Apply(remote(1_000, 1, testStart, "k", "v")); got != kv.Applied {
		t.Fatalf("an entry of a known instance was %v", got)
	}
}

// A dirty reader learns what each change replaced, however late it reads, and
// sealing an epoch puts all later stamps above it.
func TestDirtyReaderTellsWhatWasReplaced(t *testing.T) {
	s, _ := newStore(t, Options{RingBytes: 1_000})
	reader := s.NewDirtyReader()
	defer reader.Close()
	want := make(map[kv.Version]kv.Version) // by version: the one that it replaced
	last := make(map[string]kv.Version)
	for i := range 2000 {
		key := fmt.Sprintf("key%d", i%5)
		mustSet(t, s, key, fmt.Sprint(i))
		want[s.Greatest()], last[key] = last[key], s.Greatest()
	}
	epoch := s.Greatest().Epoch() + 3
	head := s.Seal(epoch)
	mustSet(t, s, "later", "v")
	if got := s.Greatest().Epoch(); got != epoch+1 {
		t.Fatalf("after sealing %d a change is stamped in epoch %d", epoch, got)
	}
	for reader.Read(64, func(c *kv.Logged) {
		if before := c.Entry.Version.Epoch() <= epoch; before != (reader.Pos() < head) && string(c.Entry.Key) != "later" {
			t.Errorf("a change of epoch %d lies at %d, the head at the seal was %d", c.Entry.Version.Epoch(), reader.Pos(), head)
		}
		if c.Replaced != want[c.Entry.Version] || c.Lost {
			t.Errorf("%v replaced %v, want %v", c.Entry.Version, c.Replaced, want[c.Entry.Version])
		}
	}) > 0 {
	}
	if reader.Pos() != s.LogHead() {
		t.Fatalf("read up to %d of %d", reader.Pos(), s.LogHead())
	}
}
