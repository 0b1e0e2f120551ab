package main

import (
	"errors"
	"fmt"
	"time"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// write has one writer of a node do something, and think until the next time.
func (n *node) write() {
	w := n.w
	if w.calm {
		return
	}
	var last journal.Ticket
	if n.ready {
		for range 1 + w.rng.work.IntN(3) {
			last = max(last, n.operate())
		}
		n.publishSoon()
	}
	n.whenDurable(last, n.think)
}

// think lets some time pass until a writer does something again.
func (n *node) think() {
	w := n.w
	think := w.rng.work.ExpFloat64() * 2 / w.plan.rate // two operations at a time on average
	n.after(time.Duration(min(think, 20)*float64(time.Second)), n.write)
}

// startWriters begins a node's load; those of an earlier start are gone.
func (n *node) startWriters() {
	for range n.w.plan.writers {
		n.after(time.Duration(n.w.rng.work.IntN(int(tickEvery))), n.write)
	}
}

// key draws a key; some are drawn much more often than others.
func (w *world) key() []byte {
	r := w.rng.work
	i := min(r.IntN(w.plan.keys), r.IntN(w.plan.keys))
	if i%7 == 0 {
		return fmt.Appendf(nil, "k%d", i/70) // one key begins with another
	}
	return fmt.Appendf(nil, "key:%04d", i)
}

// value draws a value that no other write has.
func (w *world) value() []byte {
	w.count.operations++
	v := fmt.Appendf(nil, "v%d", w.count.operations)
	switch x := w.rng.work.IntN(4000); {
	case x == 0:
		v = append(v, make([]byte, 300<<10)...) // more than goes into a message
	case x < 20:
		v = append(v, make([]byte, 2000)...)
	case x < 300:
		v = append(v, make([]byte, w.rng.work.IntN(120))...)
	}
	return v
}

// operate does one client's request and records what came of it. It is acknowledged
// when the ticket is durable.
func (n *node) operate() journal.Ticket {
	w := n.w
	before := n.store.LogHead()
	var ticket journal.Ticket
	var err error
	switch x := w.rng.work.IntN(1000); {
	case x < 640:
		ticket, err = n.store.Set(w.key(), w.value())
	case x < 800:
		_, ticket, err = n.store.Delete(w.key())
	case x < 900:
		key := w.key()
		if size, _ := n.store.MemoryOf(key); size < 2000 {
			_, ticket, err = n.store.Append(nil, key, w.value())
		}
	case x == 939 && w.rng.work.IntN(4) == 0:
		ticket, err = n.store.Truncate()
	case x < 940:
		_, ticket, err = n.store.Prepend(nil, w.key(), []byte("p"))
	default:
		var pairs [][]byte
		for range 2 + w.rng.work.IntN(4) {
			pairs = append(pairs, w.key(), w.value())
		}
		ticket, err = n.store.MSet(pairs)
	}
	var readOnly *kv.ReadOnlyError
	switch {
	case errors.As(err, &readOnly):
		w.count.refused++
	case err != nil:
		w.fail("node %d refuses a write: %v", n.id, err)
	}
	n.made(before, ticket)
	return ticket
}

// made records the changes that a node has made from a place in its log on. They
// are acknowledged together, when a ticket is durable.
func (n *node) made(from uint64, ticket journal.Ticket) {
	w := n.w
	first := len(w.history.writes)
	n.store.ReadLog(from, 1<<20, func(c *kv.Change) bool {
		w.trace.note("writes", uint64(n.id), uint64(c.Entry.Version.HLC), c.Seq, sum(c.Entry.Key), sum(c.Entry.Value))
		w.count.writes++
		if why := w.history.record(n.id, c, w.now); why != "" {
			w.fail("node %d, key %q: %s", n.id, c.Entry.Key, why)
		}
		return true
	})
	end := len(w.history.writes)
	n.whenDurable(ticket, func() { w.history.acknowledge(first, end) })
}
