package store

import "merklekv/pkg/hlc"

// keptMarks is how many past epochs with local changes are remembered.
const keptMarks = 8

// ownMark is the last local change of an epoch.
type ownMark struct {
	seq   uint64
	clock hlc.Timestamp
}

// OwnMarks calls fn for the last local change of each of the last epochs that had
// one, at most nine, oldest first; the last call is for the newest local change
// of all. It calls fn not at all if there is none, and without any lock held.
func (s *Store) OwnMarks(fn func(seq uint64, clock hlc.Timestamp)) {
	s.log.mu.Lock()
	marks, seq, clock := s.log.marks, s.log.lastSeq, s.log.lastClock
	s.log.mu.Unlock()
	for _, m := range marks {
		if m.seq != 0 {
			fn(m.seq, m.clock)
		}
	}
	if seq != 0 {
		fn(seq, clock)
	}
}

// markLocked notes where the local changes of an epoch end, when the next one,
// stamped stamp, belongs to a later one.
func (l *changeLog) markLocked(stamp hlc.Timestamp) {
	if l.lastSeq == 0 || stamp.Epoch() == l.lastClock.Epoch() {
		return
	}
	copy(l.marks[:], l.marks[1:])
	l.marks[keptMarks-1] = ownMark{l.lastSeq, l.lastClock}
}
