package server

import (
	"context"
	"time"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// Repair compares the replica with others and makes them equal. Its methods are
// called by many goroutines at once.
//
// Those with a context may block for as long as that lasts. It ends when the
// server closes or the client's connection breaks. Their errors are told to the
// client where they wrap a *protocol.Error, as protocol.ErrConnectionFailed and
// protocol.SyncFailed make them; any other is reported as an internal one.
type Repair interface {
	// Hash returns the root over all entries that the replica holds, those
	// included whose write was answered before the call; with a prefix (not nil)
	// the set hash of the keys that begin with it.
	Hash(ctx context.Context, prefix []byte) ([32]byte, error)
	// Sync runs one session with the node at an address.
	Sync(ctx context.Context, r SyncRequest) (SyncReport, error)
	// Diff finds out what differs from the node at an address and changes
	// nothing. At most limit differences are listed, the first ones by key.
	Diff(ctx context.Context, host, port string, limit int) (Differences, error)
	// Converged says whether the replicas are equal. The zero version asks for
	// all writes that this node knows of, another one for those up to it.
	Converged(ctx context.Context, version kv.Version) (protocol.Verdict, error)
	// Sessions returns records of the last n sessions at most, newest first.
	Sessions(n int) []Record
}

// Cluster is the nodes beside this one. Its methods are called by many goroutines
// at once. They wait for no other node.
type Cluster interface {
	// Peers returns a record of each other node.
	Peers() []Record
	// Replicating says whether changes are exchanged, and how many nodes take
	// part at present, this one included.
	Replicating() (enabled bool, nodes int)
	SetReplicating(enabled bool)
	// Forget takes a node off the members and reports whether it was one. Its
	// errors are those of a Store's writes.
	Forget(nodeID string) (known bool, t journal.Ticket, err error)
}

// SyncRequest says what kind of session SYNC wants. The port is a number from 1
// to 65,535.
type SyncRequest struct {
	Host, Port string
	Full       bool // exchange every key, whatever the hashes say
	Verify     bool // change nothing
}

// SyncReport is the price of a session and what it came to.
type SyncReport struct {
	Repaired  int64 // entries that changed on either side
	Compared  int64 // keys
	Bytes     int64 // both ways
	Rounds    int64 // round trips
	Elapsed   time.Duration
	Different int64 // entries that differ, when verifying
}

// Differences is what differs from another node.
type Differences struct {
	Total  int64
	Listed []Difference
}

// Difference is one (key, facet) that two nodes do not hold in the same version;
// the zero version says that a node does not hold it.
type Difference struct {
	Key, Facet  []byte
	Here, There kv.Version
}

// Record is one line of a report, as name=value words.
type Record []Field
