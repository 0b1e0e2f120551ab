package journal

import (
	"context"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// Memory is the journal of a node that keeps its data in memory only: a ticket
// is done when it is made, and nothing is there to load.
type Memory struct{}

var _ Journal = Memory{}

// Append keeps nothing; the ticket it returns is durable already.
func (Memory) Append(*kv.Change) Ticket { return 0 }

// Note keeps nothing.
func (Memory) Note(uint64, uint64, hlc.Timestamp) Ticket { return 0 }

// Vouch keeps nothing.
func (Memory) Vouch(Mark) Ticket { return 0 }

// Received returns nothing: what was received is forgotten with the process.
func (Memory) Received() []Mark { return nil }

// Durable returns the zero ticket, the only one there is.
func (Memory) Durable() Ticket { return 0 }

// Wait returns at once.
func (Memory) Wait(context.Context, Ticket) error { return nil }

// Load has nothing to offer.
func (Memory) Load(func(*kv.Entry) error) error { return nil }

// Close has nothing to release.
func (Memory) Close() error { return nil }
