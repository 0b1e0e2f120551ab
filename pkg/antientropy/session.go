package antientropy

import (
	"errors"
	"fmt"

	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// Replica is what a session repairs. Its methods are called from Next and
// Receive only.
type Replica interface {
	// Entries appends copies of all facets held of a key to dst, hidden ones
	// included.
	Entries(dst []kv.Entry, key []byte) []kv.Entry
	// Apply merges a change whose place in its origin's sequence is not known.
	// It copies what it keeps.
	Apply(*kv.Change) kv.Outcome
}

// Mode says what a session does about differences.
type Mode uint8

const (
	// Repair exchanges the entries of all keys that differ.
	Repair Mode = iota
	// Verify finds the keys that differ and changes nothing.
	Verify
	// Full compares the versions of all keys, whatever the hashes say, and
	// exchanges the entries of those that differ.
	Full
)

// String returns the mode as records of sessions name it.
func (m Mode) String() string {
	switch m {
	case Repair:
		return "repair"
	case Verify:
		return "verify"
	case Full:
		return "full"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// SessionOptions are what a session needs to know. Both sides agree in Mode,
// Salt and Epoch: the responder takes the first and the last from the open frame
// (see DecodeOpen).
type SessionOptions struct {
	Initiator bool
	Mode      Mode
	// Salt keys all fingerprints. Both sides contributed to it, so neither can
	// prepare collisions, and the next session has another.
	Salt [32]byte
	// Epoch is the closed epoch that Tree is of; 0: Tree is all that is held.
	Epoch int64
	Tree  merkle.Tree
	// Theirs is the root that the peer told of Epoch, if it did. An initiator
	// that expects equality sends no frontier.
	Theirs  *merkle.Hash
	Replica Replica
	// Root drains what was merged and returns the root at Epoch then, false when
	// the epoch is no longer kept. It may be nil.
	Root func() (merkle.Hash, bool)

	widths *sessionWidths // for tests of colliding digests
}

// Result is what became of a session. Before the end it tells what happened
// so far.
type Result struct {
	Mode  Mode
	Epoch int64

	// Success: every differing key was merged, or was the same on both sides by
	// then; never with a difference that the roots show and nothing explains.
	Success bool
	// Equal: the roots at the epoch were, or became, equal.
	Equal bool
	// Partial: bounds of memory or bytes left something for the next session.
	Partial bool

	Keys      int      // entries compared: those of the own tree
	Differing int      // keys that differ, of both sides' lists
	Sample    [][]byte // the first of them that are known here, at most 10
	Pulled    int      // entries that won here
	Pushed    int      // entries that won there
	Moot      int      // differing keys whose versions held now are equal
	Deferred  int      // entries too far in the future, on both sides

	BytesIn, BytesOut int64 // frames with their headers
	Turns             int   // both sides', empty ones included
	RoundTrips        int   // pairs of turns in which data travelled

	// Differences are the first of a verification, in the order of discovery;
	// DifferenceCount is how many there are.
	Differences     []Difference
	DifferenceCount int
}

// Difference is a (key, facet) that two replicas hold differently. A version
// of zero says that it is absent; two equal versions say that the contents
// differ.
type Difference struct {
	Key, Facet  []byte
	Here, There kv.Version
}

const (
	maxSample      = 10
	maxDifferences = 10_000
)

// Session is one repair session with one peer, without clock, socket or
// goroutine: the caller carries frames. It is for one goroutine at a time.
//
//	for !s.Done() {
//		if s.Sending() {
//			err = link.Send(s.Next())
//		} else {
//			t, payload, err = link.Receive(SessionFrames...)
//			err = s.Receive(t, payload)
//		}
//	}
//
// Nothing of it outlives it: a session that breaks off leaves what it merged,
// and another one finds the rest.
type Session struct {
	opts   SessionOptions
	marks  sessionMarks
	bounds sessionBounds
	root   merkle.Hash // of the own tree

	sending, opened, done bool
	err                   error
	turn                  turnState

	// What the peer's answers refer to: what this side sent in its last turn.
	spans []span // children of fingerprints
	lists []list

	out      sessionOut
	todo     sessionTodo
	group    entryGroup
	disputed [][]span            // ranges whose keys are exchanged, each slice in order
	disputes int                 // bytes kept of them
	settled  map[uint64]struct{} // keys that a push or an offer dealt with

	// Full mode: what the initiator has not named yet, and up to where it did.
	rest      *span
	whole     []byte
	wholeDone bool

	result Result
	own    sessionTally
	peer   *verdict
	last   *verdict // the own one
}

// turnState counts within turns.
type turnState struct {
	number   int   // turns so far, both sides'
	withData int   // of which with data
	data     bool  // the present one carries data
	quiet    bool  // the one before carried none
	bytes    int64 // of the present one

	// What the peer's present turn said so far.
	nextRange int // the range after the last one described
	children  int // parts described by fingerprints
	lists     int // lists
	nextWant  int // the list after the last one wanted from
	named     int // frames that name whole ranges
}

// SessionFrames are the types of frames that a session receives.
var SessionFrames = []protocol.FrameType{
	protocol.FrameSync, protocol.FrameRanges, protocol.FrameWants, protocol.FrameOffers,
	protocol.FrameRequests, protocol.FramePush, protocol.FrameGive, protocol.FrameTurn,
}

// ErrSessionOver is returned for a frame after the end, or out of turn.
var ErrSessionOver = errors.New("frame out of turn in a repair session")

// malformed returns an error of a peer that breaks the rules of sessions.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", protocol.ErrPeerMalformed, fmt.Errorf(format, args...))
}

// EpochRefusal is what a responder answers that keeps no tree of an epoch.
func EpochRefusal(epoch int64) *protocol.PeerError {
	return &protocol.PeerError{Code: protocol.PeerCodeEpoch, Message: fmt.Sprintf("epoch %d is not kept here", epoch)}
}

// IsEpochRefusal reports whether err says that the peer keeps no tree of the
// epoch.
func IsEpochRefusal(err error) bool {
	var refusal *protocol.PeerError
	return errors.As(err, &refusal) && refusal.Code == protocol.PeerCodeEpoch
}
