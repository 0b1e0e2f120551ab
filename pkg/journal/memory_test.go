package journal_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

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
	mu      sync.Mutex
	entries map[string]kv.Entry
	appends journal.Ticket
}

func (k *kept) Append(c *kv.Change) journal.Ticket {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entries[string(c.Entry.Key)] = c.Entry.Clone()
	k.appends++
	return k.appends
}

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
		Open:   func(testing.TB) journal.Journal { return &kept{entries: make(map[string]kv.Entry)} },
		Reopen: func(_ testing.TB, j journal.Journal) journal.Journal { return &kept{entries: j.(*kept).entries} },
	})
}
