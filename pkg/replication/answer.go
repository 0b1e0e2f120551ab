package replication

import (
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// entriesHead is what the head of the entries in a frame takes at most, in bytes.
const entriesHead = 9

// Answer sends the changes that a peer lacks, in frames of bounded size.
type Answer struct {
	rep     Replica
	send    func(payload ...[]byte) error // one frame of entries
	theirs  *vector.Vector
	mine    []protocol.VectorItem
	origins map[uint64]bool // nil: all
	repair  bool            // the peer repairs by a session what the log has lost

	frame []byte // entries that wait
	count int
	sent  uint64
	full  bool
	floor bool            // the log does not reach back, and that is left to a session
	gone  map[uint64]bool // the origins of which that is so
	err   error
}

// NewAnswer returns the answer to a pull by a node whose vector is mine
// (Core.Serve, taken just before). send is called with the pieces of one entries
// frame at a time, which are valid during the call only; its error ends Run.
func NewAnswer(rep Replica, mine []protocol.VectorItem, pull *protocol.PeerPull, send func(...[]byte) error) *Answer {
	s := &Answer{rep: rep, send: send, theirs: vectorOf(pull.Vector, pull.Spans), mine: mine, repair: pull.Repair, gone: make(map[uint64]bool)}
	for _, o := range pull.Origins {
		if s.origins == nil {
			s.origins = make(map[uint64]bool)
		}
		s.origins[o] = true
	}
	return s
}

// Run sends what the log still has. Where that does not reach back far enough, it
// sends everything instead, or, if the pull allows that, leaves the origin to a
// session; and it returns the end of the answer.
func (s *Answer) Run() (*protocol.PeerDone, error) {
	pos, end := uint64(0), s.rep.LogHead()
	for first, left := true, true; s.err == nil && !s.full && left; first = false {
		next, lost := s.rep.ReadLog(pos, 1024, s.offer)
		if first || lost {
			// What the log holds is read from its oldest change on from here, so
			// its floors are judged once that one has been seen.
			left = s.judgeFloors()
		}
		if next == pos || next >= end {
			break
		}
		pos = next
	}
	if s.full && s.err == nil {
		s.rep.Dump(s.dump)
	}
	s.flush()
	return &protocol.PeerDone{Vector: s.mine, Full: s.full, Floor: s.floor, Entries: s.sent}, s.err
}

// judgeFloors finds out of which origins the log has lost something that the peer
// lacks, and reports whether there is any other that the peer lacks something of.
func (s *Answer) judgeFloors() (left bool) {
	for _, it := range s.mine {
		have := s.theirs.Prefix(it.Instance).Seq
		switch {
		case s.origins != nil && !s.origins[it.Instance], have >= it.Seq:
		case have+1 >= s.rep.LogFloor(it.Instance):
			left = true
		case s.repair:
			s.floor = true
			s.gone[it.Instance] = true
		default:
			s.full = true
		}
	}
	return left
}

// offer sends a change of the log if the peer lacks it.
func (s *Answer) offer(c *kv.Change) bool {
	if c.Seq != 0 && (s.origins == nil || s.origins[c.Origin]) && !s.gone[c.Origin] && !s.theirs.Contains(c.Origin, c.Seq) {
		s.add(c)
	}
	return s.err == nil
}

// dump sends an entry, whose place nobody knows.
func (s *Answer) dump(e *kv.Entry) bool {
	s.add(&kv.Change{Origin: e.Version.Instance, Entry: *e})
	return s.err == nil
}

func (s *Answer) add(c *kv.Change) {
	full := s.count == protocol.MaxEntries || len(s.frame)+protocol.ChangeSize(c) > protocol.EntriesFrameSize-entriesHead
	if s.count > 0 && full {
		s.flush()
	}
	s.frame = protocol.AppendChange(s.frame, c, false)
	s.count++
	s.sent++
}

// flush sends what waits.
func (s *Answer) flush() {
	if s.count == 0 || s.err != nil {
		return
	}
	s.err = s.send(protocol.AppendEntriesHead(nil, s.count), s.frame)
	s.count, s.frame = 0, s.frame[:0]
	if cap(s.frame) > 4*protocol.EntriesFrameSize {
		s.frame = nil
	}
}
