package store

import (
	"slices"

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
	var buf []byte
	for max > 0 {
		start, batch := s.log.pin(pos, min(max, readChanges))
		lost = lost || start > pos
		pos = start
		if len(batch) == 0 {
			break
		}
		var changes []kv.Change
		changes, buf = s.log.copyOut(batch, buf[:0])
		s.log.unpin(start)
		for i := range changes {
			pos++
			max--
			if !fn(&changes[i]) {
				return pos, lost
			}
		}
	}
	return pos, lost
}

// mention is one change as the log holds it.
type mention struct {
	ref ref
	seq uint64
}

// pin keeps the log from position pos on, or from its tail if that is later, and
// returns where that is and up to n changes there. Without any there is no pin.
func (l *changeLog) pin(pos uint64, n int) (start uint64, batch []mention) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start = min(max(pos, l.tail), l.head)
	n = min(n, int(l.head-start))
	if n == 0 {
		return start, nil
	}
	l.pins = append(l.pins, start)
	batch = make([]mention, n)
	for i := range batch {
		batch[i].ref, batch[i].seq = l.atLocked(start + uint64(i))
	}
	return start, batch
}

func (l *changeLog) unpin(pos uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.pins, pos); i >= 0 {
		l.pins = slices.Delete(l.pins, i, i+1)
	}
}

// copyOut copies the records of pinned changes, as many as fit into readBytes
// but at least one. Pinned records are immutable, so no lock is needed.
func (l *changeLog) copyOut(batch []mention, buf []byte) ([]kv.Change, []byte) {
	n, total := 0, 0
	for _, m := range batch {
		size := record(l.arena.at(m.ref)).size()
		if n > 0 && total+size > readBytes {
			break
		}
		n, total = n+1, total+size
	}
	buf = slices.Grow(buf, total)
	changes := make([]kv.Change, n)
	for i, m := range batch[:n] {
		rec := record(l.arena.at(m.ref))
		start := len(buf)
		buf = append(buf, rec[:rec.size()]...)
		copied := record(buf[start:])
		instance := l.name(copied.instance())
		changes[i] = kv.Change{Origin: instance, Seq: m.seq, Entry: copied.entry(instance)}
	}
	return changes, buf
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

// RaiseLogFloor records that changes of an origin up to seq were taken over
// without being logged one by one, as by a full copy.
func (s *Store) RaiseLogFloor(origin, seq uint64) {
	i := s.log.intern(origin)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.floors[i] = max(s.log.floors[i], seq+1)
}

// DirtyReader reads the log without ever missing a change: what it has not read
// is kept, over the ring's limit if need be. It is for one goroutine.
type DirtyReader struct {
	store *Store
	pos   uint64
}

// NewDirtyReader returns a reader that begins with the next change.
func (s *Store) NewDirtyReader() *DirtyReader {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.pins = append(s.log.pins, s.log.head)
	return &DirtyReader{store: s, pos: s.log.head}
}

// Read passes up to max changes to fn and returns how many those were. Changes
// count as read, and may be forgotten, once Read returns.
func (d *DirtyReader) Read(max int, fn func(*kv.Change)) int {
	next, _ := d.store.ReadLog(d.pos, max, func(c *kv.Change) bool {
		fn(c)
		return true
	})
	n := int(next - d.pos)
	d.store.log.movePin(d.pos, next)
	d.pos = next
	return n
}

// Close lets the log forget what was not read.
func (d *DirtyReader) Close() { d.store.log.unpin(d.pos) }

func (l *changeLog) movePin(from, to uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.pins, from); i >= 0 {
		l.pins[i] = to
	}
}
