package store

import (
	"fmt"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// SetReserved stores a value under a facet of the reserved key, as a local write:
// it is stamped, logged and announced. It counts neither as a key nor against the
// memory limit.
//
// It fails with kv.ErrInvalidEntry for a facet that is empty or too long, with
// kv.ErrValueTooLong, with kv.ErrStorageFull when the system has no memory, or
// with a *kv.ReadOnlyError.
func (s *Store) SetReserved(facet, value []byte) (journal.Ticket, error) {
	millis, err := s.checkReserved(facet)
	if err != nil {
		return 0, err
	}
	if len(value) > kv.MaxValueLen {
		return 0, kv.ErrValueTooLong
	}
	if string(facet) == kv.MarkFacet {
		return 0, fmt.Errorf("%w: the truncation mark is written by Truncate", kv.ErrInvalidEntry)
	}
	sh, hash := s.locate(nil)
	sh.mu.Lock()
	t, err := s.setLocked(sh, hash, &kv.Entry{Facet: facet, Value: value}, millis)
	sh.mu.Unlock()
	if err == nil {
		s.announce()
	}
	return t, err
}

// DeleteReserved removes a facet of the reserved key and reports whether it was
// there; where it was not, nothing is written. Its errors are those of
// SetReserved.
func (s *Store) DeleteReserved(facet []byte) (existed bool, t journal.Ticket, err error) {
	millis, err := s.checkReserved(facet)
	if err != nil {
		return false, 0, err
	}
	if string(facet) == kv.MarkFacet {
		return false, 0, fmt.Errorf("%w: the truncation mark stays", kv.ErrInvalidEntry)
	}
	sh, hash := s.locate(nil)
	sh.mu.Lock()
	existed, t, err = s.deleteReservedLocked(sh, hash, facet, millis)
	sh.mu.Unlock()
	if existed && err == nil {
		s.announce()
	}
	return existed, t, err
}

func (s *Store) deleteReservedLocked(sh *shard, hash uint32, facet []byte, millis int64) (existed bool, t journal.Ticket, err error) {
	if err := s.reserve(sh, 1); err != nil {
		return false, 0, err
	}
	old := s.lookup(sh, hash, nil, facet).old
	if old == 0 || record(s.arena.at(old)).flags()&kv.Tombstone != 0 {
		return false, 0, nil
	}
	t, err = s.setLocked(sh, hash, &kv.Entry{Facet: facet, Flags: kv.Tombstone}, millis)
	return true, t, err
}

// checkReserved returns why a facet of the reserved key cannot be written now, or
// the physical clock's milliseconds for the stamp.
func (s *Store) checkReserved(facet []byte) (millis int64, err error) {
	if len(facet) == 0 || len(facet) > kv.MaxFacetLen {
		return 0, fmt.Errorf("%w: reserved facet of %d bytes", kv.ErrInvalidEntry, len(facet))
	}
	return s.checkStamps(1)
}

// Truncate removes all keys, here at once and on other nodes when they hear of it:
// it writes the truncation mark, and every client's version at or below that is
// dead. What was acknowledged before the call is gone when it returns; what is
// written after it stays. The memory of the dead is not freed by it.
//
// It fails with a *kv.ReadOnlyError, or with kv.ErrStorageFull when the system has
// no memory, and has then changed nothing.
func (s *Store) Truncate() (journal.Ticket, error) {
	millis, err := s.checkStamps(1)
	if err != nil {
		return 0, err
	}
	// With all shards locked nobody can read a value from before the mark and
	// stamp what he makes of it after the mark.
	s.lockShards(&everyShard)
	t, err := s.truncateLocked(millis)
	s.unlockShards(&everyShard)
	if err == nil {
		s.announce()
	}
	return t, err
}

var everyShard = func() (wanted [numShards]int) {
	for i := range wanted {
		wanted[i] = 1
	}
	return wanted
}()

func (s *Store) truncateLocked(millis int64) (journal.Ticket, error) {
	sh, hash := s.locate(nil)
	facet := []byte(kv.MarkFacet)
	t, err := s.setLocked(sh, hash, &kv.Entry{Facet: facet}, millis)
	if err != nil {
		return 0, err
	}
	mark := s.version(record(s.arena.at(s.lookup(sh, hash, nil, facet).old)))
	for i := range s.shards {
		// The clock has seen every version that is held, so the mark is above all
		// of them.
		s.shards[i].mark, s.shards[i].keys = mark, 0
	}
	return t, nil
}

// raiseMarks makes readers see the truncation mark v, which another node made.
func (s *Store) raiseMarks(v kv.Version) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		if sh.mark.Less(v) {
			sh.mark = v
			s.recount(sh)
		}
		sh.mu.Unlock()
	}
}

// recount counts the keys of a shard anew.
func (s *Store) recount(sh *shard) {
	sh.keys, sh.tombstones = 0, 0
	for _, slot := range sh.table.slots {
		if slot != 0 {
			s.count(sh, record(s.arena.at(slotRef(slot))), +1)
		}
	}
}
