package replication

import (
	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// Replica is the store as replication sees it. All methods may be called by
// several goroutines at once.
type Replica interface {
	// Instance returns the random number of this start of the node.
	Instance() uint64
	// OwnMarks calls fn for the last own change of each of at least the last four
	// epochs that had one, oldest first, and so for the newest one at the end. They
	// are in the log already.
	OwnMarks(fn func(seq uint64, clock hlc.Timestamp))
	// Greatest returns the greatest version issued or applied.
	Greatest() kv.Version
	// Apply merges a change that came from elsewhere and copies what it keeps.
	// Seq 0 says that the change's place is not known. A change that loses is
	// logged as well; one that is deferred leaves no trace.
	Apply(c *kv.Change) kv.Outcome

	// LogHead returns the position after the newest change in the log, which is
	// a bounded ring of all changes issued or applied here, in that order.
	LogHead() uint64
	// ReadLog calls fn for up to max changes from a position on, until fn returns
	// false; the change for which it did so counts as read. lost says that pos had
	// left the ring and that reading began at the oldest change. The change is valid during the call only, and fn may block.
	ReadLog(pos uint64, max int, fn func(*kv.Change) bool) (next uint64, lost bool)
	// LogFloor returns the sequence from which on every applied change of an
	// origin is still in the ring; 1 if none ever left it.
	LogFloor(origin uint64) uint64
	// RaiseLogFloor says that changes of an origin up to seq, which is stamped so,
	// count as received without being in the ring: what they left behind was applied
	// before, by whichever way. A replica that outlives the process keeps that too.
	RaiseLogFloor(origin, seq uint64, stamp hlc.Timestamp)
	// Changed returns a channel of capacity 1 that holds a token when own changes
	// were added.
	Changed() <-chan struct{}

	// Dump calls fn for every entry held, in no order, until fn returns false.
	// What is written meanwhile may or may not be among them.
	Dump(fn func(*kv.Entry) bool)
}
