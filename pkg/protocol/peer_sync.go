package protocol

// A repair session speaks in turns on a peer link. FrameSync opens it; after
// that one side sends frames until its FrameTurn, then the other does:
//
//	16 sync      opens: mode, epoch, count, root
//	17 ranges    ranges of keys, described by fingerprints or by digests
//	18 wants     digests of a list whose keys are wanted
//	19 offers    keys with their versions, without values
//	20 requests  keys of which the entries are wanted
//	21 push      entries that the other side lacks or must answer
//	22 give      entries that the other side asked for, or that beat its own
//	23 turn      the turn is the other's; with a payload, the verdict
//
// The payloads are drawn in pkg/antientropy/SESSION.md.
const (
	FrameSync     FrameType = 16
	FrameRanges   FrameType = 17
	FrameWants    FrameType = 18
	FrameOffers   FrameType = 19
	FrameRequests FrameType = 20
	FramePush     FrameType = 21
	FrameGive     FrameType = 22
	FrameTurn     FrameType = 23
)

// SyncFrameSize is what a frame of a session holds at most, in bytes, unless it
// has only one entry.
const SyncFrameSize = EntriesFrameSize

// PeerCodeEpoch refuses a session at an epoch that the node does not keep.
const PeerCodeEpoch = "epoch"

// syncFrame is what there is to know of a session's frame type.
type syncFrame struct {
	name  string
	limit int // greatest payload, in bytes
}

// syncFrames holds the session's frame types, from FrameSync on.
var syncFrames = [...]syncFrame{
	{"sync", 64},
	{"ranges", SyncFrameSize},
	{"wants", SyncFrameSize},
	{"offers", SyncFrameSize},
	{"requests", SyncFrameSize},
	{"push", MaxEntryLen},
	{"give", MaxEntryLen},
	{"turn", 128},
}

// sync returns what t is in a session; its limit is 0 if it is nothing there.
func (t FrameType) sync() syncFrame {
	if t < FrameSync || int(t-FrameSync) >= len(syncFrames) {
		return syncFrame{}
	}
	return syncFrames[t-FrameSync]
}
