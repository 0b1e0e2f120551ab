package store

import (
	"slices"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// DirtyReader reads the log without ever missing a change: what it has not read
// is kept, over the ring's limit if need be. It is for one goroutine.
type DirtyReader struct {
	store  *Store
	pos    uint64
	window readWindow
	logged kv.Logged
}

// NewDirtyReader returns a reader that begins with the next change.
func (s *Store) NewDirtyReader() *DirtyReader {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.pins = append(s.log.pins, s.log.head)
	return &DirtyReader{store: s, pos: s.log.head}
}

// Read passes up to max changes to fn and returns how many those were. Changes
// count as read, and may be forgotten, once Read returns. fn is called without
// any lock held; the change is valid during the call only.
func (d *DirtyReader) Read(max int, fn func(*kv.Logged)) int {
	l, w, n := d.store.log, &d.window, 0
	for n < max {
		if l.pin(w, d.pos, min(max-n, readChanges)); len(w.mentions) == 0 {
			break
		}
		w.copyOut(l)
		for i := range w.changes {
			fn(d.tell(i))
		}
		l.unpin(d.pos)
		next := d.pos + uint64(len(w.changes))
		l.movePin(d.pos, next)
		d.pos, n = next, n+len(w.changes)
	}
	return n
}

// Pos returns the position after the last change that was read.
func (d *DirtyReader) Pos() uint64 { return d.pos }

// Close lets the log forget what was not read.
func (d *DirtyReader) Close() { d.store.log.unpin(d.pos) }

// tell returns change i of the window and what became of it. What it replaced
// lies in quarantine as long as the log mentions the change.
func (d *DirtyReader) tell(i int) *kv.Logged {
	m := &d.window.mentions[i]
	d.logged = kv.Logged{Change: d.window.changes[i], Lost: m.gone == m.ref}
	if m.gone != 0 && !d.logged.Lost {
		rec := record(d.store.arena.at(m.gone))
		d.logged.Replaced = d.store.version(rec)
	}
	return &d.logged
}

func (l *changeLog) movePin(from, to uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.pins, from); i >= 0 {
		l.pins[i] = to
	}
}

// Seal makes every stamp from now on greater than all of an epoch, and returns
// the log's head. All local changes of the epoch are before that.
func (s *Store) Seal(epoch int64) (head uint64) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.clock.Raise(hlc.LastOf(epoch)) // stamping takes the log's lock too
	return s.log.head
}
