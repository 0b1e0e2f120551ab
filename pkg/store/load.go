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
	if err := s.journal.Load(s.take); err != nil {
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

// take links one entry of the journal. What this node once accepted needs no leave
// of the clock.
func (s *Store) take(e *kv.Entry) error {
	s.clock.Raise(e.Version.HLC)
	if s.log.greatest.Less(e.Version) {
		s.log.greatest = e.Version
	}
	instance, known := s.log.intern(e.Version.Instance)
	if !known {
		return errTooManyInstances
	}
	sh, hash := s.locate(e.Key)
	if err := s.reserve(sh, 1); err != nil {
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
	record(s.arena.at(r)).setVersion(e.Version.HLC, instance)
	s.link(sh, hash, p, r)
	if p.old != 0 {
		s.arena.free(p.old, record(s.arena.at(p.old)).size())
	}
	if e.IsReserved() && string(e.Facet) == markFacet {
		s.raiseMarks(e.Version)
	}
	return nil
}
