package journal_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/journaltest"
	"merklekv/pkg/kv"
)

func TestMemory(t *testing.T) {
	journaltest.Run(t, journaltest.Kind{Open: func(testing.TB) journal.Journal { return journal.Memory{} }})
}

// kept is the simplest journal that keeps something: a map that outlives it. It
// shows that the suite can be passed by a kind that keeps entries.
type kept struct {
	mu       sync.Mutex
	entries  map[string]kv.Entry
	marks    map[uint64]journal.Mark
	above    map[uint64]map[uint64]hlc.Timestamp // by origin and sequence: noted above a gap
	received []journal.Mark
	appends  journal.Ticket
}

func newKept(old *kept) *kept {
	k := &kept{entries: make(map[string]kv.Entry), marks: make(map[uint64]journal.Mark), above: make(map[uint64]map[uint64]hlc.Timestamp)}
	if old != nil {
		k.entries, k.marks = old.entries, old.marks
		k.received = slices.Collect(maps.Values(old.marks))
	}
	return k
}

func (k *kept) Append(c *kv.Change) journal.Ticket {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entries[string(c.Entry.Key)+"/"+string(c.Entry.Facet)] = c.Entry.Clone()
	return k.noteLocked(c.Origin, c.Seq, c.Entry.Version.HLC)
}

func (k *kept) Note(origin, seq uint64, stamp hlc.Timestamp) journal.Ticket {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.noteLocked(origin, seq, stamp)
}

func (k *kept) noteLocked(origin, seq uint64, stamp hlc.Timestamp) journal.Ticket {
	k.appends++
	if seq == 0 {
		return k.appends
	}
	if k.above[origin] == nil {
		k.above[origin] = make(map[uint64]hlc.Timestamp)
	}
	k.above[origin][seq] = stamp
	k.absorbLocked(origin)
	return k.appends
}

func (k *kept) absorbLocked(origin uint64) {
	for {
		next := k.marks[origin].Seq + 1
		stamp, there := k.above[origin][next]
		if !there {
			return
		}
		k.marks[origin] = journal.Mark{Origin: origin, Seq: next, Stamp: stamp}
	}
}

func (k *kept) Vouch(m journal.Mark) journal.Ticket {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.appends++
	if m.Seq > k.marks[m.Origin].Seq {
		k.marks[m.Origin] = m
		k.absorbLocked(m.Origin)
	}
	return k.appends
}

func (k *kept) Received() []journal.Mark { return k.received }

func (k *kept) Durable() journal.Ticket {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.appends
}

func (k *kept) Wait(context.Context, journal.Ticket) error { return nil }
func (k *kept) Close() error                               { return nil }

func (k *kept) Load(fn func(*kv.Entry) error) error {
	for _, e := range slices.Collect(maps.Values(k.entries)) {
		if err := fn(&e); err != nil {
			return err
		}
	}
	return nil
}

func TestSuiteWithAJournalThatKeeps(t *testing.T) {
	journaltest.Run(t, journaltest.Kind{
		Open:   func(testing.TB) journal.Journal { return newKept(nil) },
		Reopen: func(_ testing.TB, j journal.Journal) journal.Journal { return newKept(j.(*kept)) },
	})
}
