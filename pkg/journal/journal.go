// Package journal is what makes writes outlive the process.
//
// A store appends every change that it accepts, in the order in which it made or
// received them, and gets a [Ticket]. The ticket is durable when the journal says so;
// many tickets become durable by one sync. The store's callers wait once for the
// greatest ticket of a pipeline, never for each write.
//
// [Memory] is the journal of a node that keeps nothing. Every implementation
// passes the suite in package journaltest.
package journal

import (
	"context"
	"errors"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// Ticket is a place in the order of appended records. The zero Ticket is durable
// from the beginning: a caller that wrote nothing waits for nothing.
type Ticket uint64

// Mark is a place in an origin's sequence of changes, and the stamp of the change
// there.
type Mark struct {
	Origin uint64
	Seq    uint64
	Stamp  hlc.Timestamp
}

// ErrClosed is returned by a journal that was closed.
var ErrClosed = errors.New("journal is closed")

// Journal takes entries in order and makes them durable in groups.
//
// All methods may be called by several goroutines at once.
type Journal interface {
	// Append adds an accepted change, whose entry takes the place of what the
	// journal held under its name, and returns its ticket. Origin and Seq, where Seq
	// is not 0, say which place in its origin's sequence is durable together with
	// the entry: from them comes the vector of what was applied. Append copies what
	// it keeps, does no I/O and does not block. Tickets never decrease.
	Append(c *kv.Change) Ticket

	// Note records that a change was received whose entry is not kept, because it
	// lost or was there already: only its place counts. Like Append it keeps its
	// place in the order, so it is never durable before what was appended earlier.
	Note(origin, seq uint64, stamp hlc.Timestamp) Ticket

	// Vouch records that all changes of an origin up to a place count as received:
	// what they left behind was appended before, entry by entry.
	Vouch(m Mark) Ticket

	// Durable returns the greatest ticket that is durable. All smaller ones are.
	Durable() Ticket

	// Wait returns when t is durable. An error means that t is not known to be
	// durable: ctx's own, ErrClosed, or that of a failed sync, after which no
	// further ticket ever becomes durable.
	Wait(ctx context.Context, t Ticket) error

	// Received returns the vector of what was applied, as it was durable when the
	// journal was opened: for each origin the end of what was received without a
	// gap, in no particular order.
	Received() []Mark

	// Load calls fn for every entry that is in the journal, in no particular
	// order, and stops at the first error, which it returns. The entry is valid
	// during the call only.
	Load(fn func(*kv.Entry) error) error

	// Close makes durable what was appended, releases everything and returns the
	// last sync's error. Further calls do nothing and return nil.
	Close() error
}

// BatchLoader is what a Journal may be besides: one that hands over what it holds in
// batches, which are faster to take in.
type BatchLoader interface {
	// LoadBatches is Load with many entries at a time. They are valid during the
	// call only.
	LoadBatches(fn func([]kv.Entry) error) error
	// Expected estimates how many entries there are.
	Expected() int64
}
