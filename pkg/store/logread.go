package store

import (
	"slices"
	"sync"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

const (
	readChanges = 512       // changes taken at a time
	readBytes   = 256 << 10 // bytes copied at a time, or one change
)

// LogHead returns the position after the newest change in the log.
func (s *Store) LogHead() uint64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.head
}

// ReadLog calls fn for the changes from position pos on, oldest first, until fn
// returns false, max changes were passed, or the log ends. It returns the
// position to go on at. lost says that pos had left the log already; reading
// then began at the oldest change that is still there.
//
// fn is called without any lock held; the change is valid during the call only.
func (s *Store) ReadLog(pos uint64, max int, fn func(*kv.Change) bool) (next uint64, lost bool) {
	w := readWindows.Get().(*readWindow)
	defer readWindows.Put(w)
	for max > 0 {
		start := s.log.pin(w, pos, min(max, readChanges))
		lost = lost || start > pos
		pos = start
		if len(w.mentions) == 0 {
			break
		}
		w.copyOut(s.log)
		s.log.unpin(start)
		for i := range w.changes {
			pos++
			max--
			if !fn(&w.changes[i]) {
				return pos, lost
			}
		}
	}
	return pos, lost
}

// readWindow is the memory in which changes are passed to a reader of the log.
type readWindow struct {
	mentions []mention
	changes  []kv.Change
	buf      []byte
}

var readWindows = sync.Pool{New: func() any { return new(readWindow) }}

// mention is one change as the log holds it.
type mention struct {
	ref  ref
	gone ref    // see logBlock
	size uint32 // of the slot, bytes
	seq  uint64
}

// pin keeps the log from position pos on, or from its tail if that is later,
// returns where that is, and puts up to n mentions from there into w. Without
// any there is no pin.
func (l *changeLog) pin(w *readWindow, pos uint64, n int) (start uint64) {
	w.mentions = w.mentions[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	start = min(max(pos, l.tail), l.head)
	n = min(n, int(l.head-start))
	if n == 0 {
		return start
	}
	l.pins = append(l.pins, start)
	for i := range uint64(n) {
		w.mentions = append(w.mentions, l.atLocked(start+i))
	}
	return start
}

func (l *changeLog) unpin(pos uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.pins, pos); i >= 0 {
		l.pins = slices.Delete(l.pins, i, i+1)
	}
}

// copyOut makes changes of the pinned mentions, as many as fit into readBytes but
// at least one. Pinned records are immutable but for their link, which is left
// out, so no lock is needed.
//
// It copies all slots before it looks into any: they are in nobody's cache, and
// copies that do not depend on each other fetch several at a time.
func (w *readWindow) copyOut(l *changeLog) {
	w.changes, w.buf = w.changes[:0], w.buf[:0]
	if cap(w.buf) < readBytes || cap(w.buf) > 2*readBytes {
		w.buf = make([]byte, 0, readBytes)
	}
	n := 0
	for i, m := range w.mentions {
		if i > 0 && len(w.buf)+int(m.size) > cap(w.buf) {
			break
		}
		rec := l.arena.at(m.ref)[:m.size]
		w.buf = append(w.buf, rec[:linkAt]...)
		w.buf = append(w.buf, 0, 0, 0, 0)
		w.buf = append(w.buf, rec[linkAt+4:]...)
		n++
	}
	start := 0
	for _, m := range w.mentions[:n] {
		copied := record(w.buf[start:])
		instance := l.name(copied.instance())
		w.changes = append(w.changes, kv.Change{Origin: instance, Seq: m.seq, Entry: copied.entry(instance)})
		start += int(m.size)
	}
}

// LogFloor returns the sequence number from which on every change of an origin
// that was applied here with its number is still in the log; 1 if nothing of it
// ever left.
func (s *Store) LogFloor(origin uint64) uint64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if i, ok := s.log.index[origin]; ok {
		return s.log.floors[i]
	}
	return 1
}

// RaiseLogFloor records that the changes of an origin up to seq, which is stamped
// so, count as received without being logged one by one, as after a full copy. What
// they left behind was applied before: the journal, which gets everything in that
// order, never vouches for what it does not hold.
func (s *Store) RaiseLogFloor(origin, seq uint64, stamp hlc.Timestamp) {
	s.raiseFloor(origin, seq)
	s.journal.Vouch(journal.Mark{Origin: origin, Seq: seq, Stamp: stamp})
}

// raiseFloor records that the log does not hold the changes of an origin up to seq.
func (s *Store) raiseFloor(origin, seq uint64) {
	i, ok := s.log.intern(origin)
	if !ok {
		return // nor is any change of it in the log
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.floors[i] = max(s.log.floors[i], seq+1)
}
