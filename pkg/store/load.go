package store

import (
	"errors"
	"fmt"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// load takes in what the journal holds, and has the log journal what comes after.
// Nothing of it is in the log: an index begins with all that is held, and peers
// are not served from the log what was received before the start. The store is
// not in use yet, so no lock is taken.
func (s *Store) load() error {
	if _, keepsNothing := s.journal.(journal.Memory); keepsNothing {
		return nil
	}
	if err := s.loadEntries(); err != nil {
		return fmt.Errorf("load journal: %w", err)
	}
	for _, m := range s.journal.Received() {
		s.raiseFloor(m.Origin, m.Seq)
	}
	s.log.journal = s.journal
	return nil
}

// errTooManyInstances is why a journal cannot be loaded that no cluster wrote.
var errTooManyInstances = errors.New("entries of too many instances")

func (s *Store) loadEntries() error {
	l := loader{store: s}
	if batches, ok := s.journal.(journal.BatchLoader); ok {
		l.expected = int(batches.Expected() / numShards)
		return batches.LoadBatches(l.takeAll)
	}
	return s.journal.Load(func(e *kv.Entry) error {
		sh, hash := s.locate(e.Key)
		return l.take(e, sh, hash)
	})
}

// loader fills a store that nobody uses yet.
type loader struct {
	store    *Store
	expected int // keys in a shard; an estimate, 0 for none
	instance uint64
	index    uint32 // of instance, the last one
	places   [loadWindow]loadPlace
	touched  uint64 // of the slots that were touched; keeps that from being optimised away
}

type loadPlace struct {
	sh   *shard
	hash uint32
}

// loadWindow is how many slots are touched ahead: they are in nobody's cache, and
// loads that do not wait for each other fetch several at a time.
const loadWindow = 32

func (l *loader) takeAll(entries []kv.Entry) error {
	for len(entries) > 0 {
		window := entries[:min(len(entries), loadWindow)]
		entries = entries[len(window):]
		l.touch(window)
		for i := range window {
			if err := l.take(&window[i], l.places[i].sh, l.places[i].hash); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) touch(window []kv.Entry) {
	for i := range window {
		sh, hash := l.store.locate(window[i].Key)
		l.places[i] = loadPlace{sh, hash}
		if t := &sh.table; len(t.slots) > 0 {
			l.touched += t.slots[t.home(hash)]
		}
	}
}

// take links one entry of the journal. What this node once accepted needs no leave
// of the clock.
func (l *loader) take(e *kv.Entry, sh *shard, hash uint32) error {
	s := l.store
	s.clock.Raise(e.Version.HLC)
	if s.log.greatest.Less(e.Version) {
		s.log.greatest = e.Version
	}
	if err := l.intern(e.Version.Instance); err != nil {
		return err
	}
	if err := s.reserve(sh, l.room(&sh.table)); err != nil {
		return fmt.Errorf("key %q: %w", e.Key, err)
	}
	p := s.lookup(sh, hash, e.Key, e.Facet)
	if s.contest(p.old, e) != kv.Applied {
		return nil
	}
	r, err := s.arena.write(e)
	if err != nil {
		return fmt.Errorf("key %q: %w", e.Key, err)
	}
	record(s.arena.at(r)).setVersion(e.Version.HLC, l.index)
	s.link(sh, hash, p, r)
	if p.old != 0 {
		s.arena.free(p.old, record(s.arena.at(p.old)).size())
	}
	if e.IsMark() {
		s.raiseMarks(e.Version)
	}
	return nil
}

// intern makes an instance the present one.
func (l *loader) intern(instance uint64) error {
	if l.instance == instance {
		return nil
	}
	index, known := l.store.log.intern(instance)
	if !known {
		return errTooManyInstances
	}
	l.instance, l.index = instance, index
	return nil
}

// room returns for how many keys a table is to have room: one, and where it has none
// left, as many as are expected, but never more than there are already. So a table
// seldom moves, and one of which too much was expected is at most twice too large.
func (l *loader) room(t *table) int {
	if t.used < t.growAt {
		return 1
	}
	return max(1, min(t.used, l.expected-t.used))
}
