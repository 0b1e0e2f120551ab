// Package journaltest is the suite that every journal passes.
package journaltest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// Kind is a kind of journal to be tested.
type Kind struct {
	// Open returns an empty journal.
	Open func(testing.TB) journal.Journal
	// Reopen closes a journal and opens it again. It is nil for a kind that keeps
	// nothing, which then must have nothing to load.
	Reopen func(testing.TB, journal.Journal) journal.Journal
}

// Run checks that a kind of journal keeps the contract of journal.Journal.
func Run(t *testing.T, k Kind) {
	for name, test := range map[string]func(*testing.T, Kind, journal.Journal){
		"the zero ticket is durable":        zeroTicket,
		"tickets never decrease":            ticketsGrow,
		"waiting makes all before durable":  waiting,
		"closing twice is closing once":     closing,
		"an empty journal has nothing":      loadEmpty,
		"many goroutines append and wait":   concurrent,
		"waiting ends with its own context": canceled,
	} {
		t.Run(name, func(t *testing.T) {
			j := k.Open(t)
			test(t, k, j)
			if err := j.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	t.Run("what was durable is there again", func(t *testing.T) { keeps(t, k) })
	t.Run("so is the vector of what was received", func(t *testing.T) { keepsVector(t, k) })
}

func change(i int) *kv.Change {
	return &kv.Change{Origin: 1, Seq: uint64(i + 1), Entry: kv.Entry{
		Key: fmt.Appendf(nil, "key%d", i), Value: fmt.Appendf(nil, "value%d", i),
		Version: kv.Version{HLC: hlc.Timestamp(i + 1), Instance: 1},
	}}
}

func wait(t *testing.T, j journal.Journal, ticket journal.Ticket) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := j.Wait(ctx, ticket); err != nil {
		t.Fatalf("Wait(%d): %v", ticket, err)
	}
}

func load(t *testing.T, j journal.Journal) map[string]string {
	t.Helper()
	held := make(map[string]string)
	err := j.Load(func(e *kv.Entry) error {
		held[string(e.Key)+string(e.Facet)] = fmt.Sprintf("%s %v %d", e.Value, e.Version, e.Flags)
		return nil
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return held
}

func zeroTicket(t *testing.T, _ Kind, j journal.Journal) { wait(t, j, 0) }

func ticketsGrow(t *testing.T, _ Kind, j journal.Journal) {
	var last journal.Ticket
	for i := range 1000 {
		ticket := j.Append(change(i))
		if ticket < last {
			t.Fatalf("ticket %d after %d", ticket, last)
		}
		last = ticket
	}
}

func waiting(t *testing.T, _ Kind, j journal.Journal) {
	first := j.Append(change(1))
	last := j.Append(change(2))
	wait(t, j, last)
	if j.Durable() < last {
		t.Fatalf("Durable = %d after waiting for %d", j.Durable(), last)
	}
	wait(t, j, first)
}

// keeps writes 100 keys, the last of them twice, spoils the memory that it handed
// over, and looks for all of them after the journal was opened again.
func keeps(t *testing.T, k Kind) {
	j := k.Open(t)
	want := make(map[string]string)
	for i := range 101 {
		c := change(i)
		if i == 100 {
			c.Entry.Key = []byte("key99")
		}
		want[string(c.Entry.Key)] = fmt.Sprintf("%s %v %d", c.Entry.Value, c.Entry.Version, c.Entry.Flags)
		wait(t, j, j.Append(c))
		clear(c.Entry.Value)
	}
	if k.Reopen == nil {
		want = nil
	} else {
		j = k.Reopen(t, j)
	}
	got := load(t, j)
	if len(got) != len(want) {
		t.Errorf("%d entries are there, want %d", len(got), len(want))
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// keepsVector has one origin whose changes came in order, one with a gap that
// stays, one whose gap closes, one of which all was vouched for, and one that is
// noted only.
func keepsVector(t *testing.T, k Kind) {
	j := k.Open(t)
	if got := j.Received(); len(got) > 0 {
		t.Errorf("an empty journal has received %v", got)
	}
	entry := func(origin, seq uint64) journal.Ticket {
		return j.Append(&kv.Change{Origin: origin, Seq: seq, Entry: kv.Entry{
			Key:     fmt.Appendf(nil, "%d/%d", origin, seq),
			Version: kv.Version{HLC: hlc.Timestamp(1000*origin + seq), Instance: origin},
		}})
	}
	for _, c := range [][2]uint64{{1, 1}, {1, 2}, {2, 1}, {2, 3}, {3, 2}, {3, 3}, {3, 1}, {4, 9}, {6, 0}} {
		entry(c[0], c[1])
	}
	j.Vouch(journal.Mark{Origin: 4, Seq: 8, Stamp: 4008})
	j.Vouch(journal.Mark{Origin: 1, Seq: 1, Stamp: 1001}) // known already
	wait(t, j, j.Note(5, 1, 5001))
	want := []journal.Mark{{Origin: 1, Seq: 2, Stamp: 1002}, {Origin: 2, Seq: 1, Stamp: 2001},
		{Origin: 3, Seq: 3, Stamp: 3003}, {Origin: 4, Seq: 9, Stamp: 4009}, {Origin: 5, Seq: 1, Stamp: 5001}}
	if k.Reopen == nil {
		want = nil
	} else {
		j = k.Reopen(t, j)
	}
	got := slices.SortedFunc(slices.Values(j.Received()), func(a, b journal.Mark) int { return cmp.Compare(a.Origin, b.Origin) })
	if !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func closing(t *testing.T, _ Kind, j journal.Journal) {
	j.Append(change(1))
	if err := j.Close(); err != nil {
		t.Fatalf("first Close: %v", err)
	}
}

func loadEmpty(t *testing.T, _ Kind, j journal.Journal) {
	if held := load(t, j); len(held) > 0 {
		t.Fatalf("found %v", held)
	}
}

func concurrent(t *testing.T, _ Kind, j journal.Journal) {
	t.Run("appenders", func(t *testing.T) {
		for g := range 8 {
			t.Run(fmt.Sprint(g), func(t *testing.T) {
				t.Parallel()
				for i := range 100 {
					wait(t, j, j.Append(change(g*100+i)))
				}
			})
		}
	})
}

func canceled(t *testing.T, _ Kind, j journal.Journal) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ticket := j.Append(change(1))
	if err := j.Wait(ctx, ticket); err == nil && j.Durable() < ticket {
		t.Fatal("Wait with a cancelled context said durable when it was not")
	}
}
