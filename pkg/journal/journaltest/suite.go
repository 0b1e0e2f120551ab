// Package journaltest is the suite that every journal passes.
package journaltest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// Run checks that a journal keeps the contract of journal.Journal. open returns
// an empty one.
func Run(t *testing.T, open func(testing.TB) journal.Journal) {
	for name, test := range map[string]func(*testing.T, journal.Journal){
		"the zero ticket is durable":        zeroTicket,
		"tickets never decrease":            ticketsGrow,
		"waiting makes all before durable":  waiting,
		"appended entries are not kept":     copies,
		"closing twice is closing once":     closing,
		"an empty journal has nothing":      loadEmpty,
		"many goroutines append and wait":   concurrent,
		"waiting ends with its own context": canceled,
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t)
			test(t, j)
			if err := j.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func entry(i int) *kv.Entry {
	return &kv.Entry{
		Key: fmt.Appendf(nil, "key%d", i), Value: fmt.Appendf(nil, "value%d", i),
		Version: kv.Version{HLC: hlc.Timestamp(i + 1), Instance: 1},
	}
}

func wait(t *testing.T, j journal.Journal, ticket journal.Ticket) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := j.Wait(ctx, ticket); err != nil {
		t.Fatalf("Wait(%d): %v", ticket, err)
	}
}

func zeroTicket(t *testing.T, j journal.Journal) { wait(t, j, 0) }

func ticketsGrow(t *testing.T, j journal.Journal) {
	var last journal.Ticket
	for i := range 1000 {
		ticket := j.Append(entry(i))
		if ticket < last {
			t.Fatalf("ticket %d after %d", ticket, last)
		}
		last = ticket
	}
}

func waiting(t *testing.T, j journal.Journal) {
	first := j.Append(entry(1))
	last := j.Append(entry(2))
	wait(t, j, last)
	if j.Durable() < last {
		t.Fatalf("Durable = %d after waiting for %d", j.Durable(), last)
	}
	wait(t, j, first)
}

func copies(t *testing.T, j journal.Journal) {
	e := entry(1)
	ticket := j.Append(e)
	for i := range e.Value {
		e.Value[i] = 'X'
	}
	wait(t, j, ticket)
	err := j.Load(func(loaded *kv.Entry) error {
		if string(loaded.Value) != "value1" {
			t.Errorf("loaded %q", loaded.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func closing(t *testing.T, j journal.Journal) {
	j.Append(entry(1))
	if err := j.Close(); err != nil {
		t.Fatalf("first Close: %v", err)
	}
}

func loadEmpty(t *testing.T, j journal.Journal) {
	err := j.Load(func(e *kv.Entry) error { return fmt.Errorf("found %q", e.Key) })
	if err != nil {
		t.Fatal(err)
	}
}

func concurrent(t *testing.T, j journal.Journal) {
	t.Run("appenders", func(t *testing.T) {
		for g := range 8 {
			t.Run(fmt.Sprint(g), func(t *testing.T) {
				t.Parallel()
				for i := range 100 {
					wait(t, j, j.Append(entry(g*100+i)))
				}
			})
		}
	})
}

func canceled(t *testing.T, j journal.Journal) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ticket := j.Append(entry(1))
	if err := j.Wait(ctx, ticket); err == nil && j.Durable() < ticket {
		t.Fatal("Wait with a cancelled context said durable when it was not")
	}
}
