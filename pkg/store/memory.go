package store

// MemoryUsed returns the bytes that the memory limit bounds: the slots of all
// entries and the tables over them. The log of recent changes comes on top; it
// has its own bound.
func (s *Store) MemoryUsed() int64 { return s.used.Load() }

// MemoryOf returns the bytes that a key takes with all its facets, and whether
// it is there.
func (s *Store) MemoryOf(key []byte) (bytes int64, ok bool) {
	sh, hash := s.locate(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if !s.look(sh, hash, key).OK {
		return 0, false
	}
	_, head := sh.table.find(s.arena, hash, key)
	bytes = 8 // the table's slot
	for r := head; r != 0; r = record(s.arena.at(r)).next() {
		bytes += int64(s.slotSizeOf(r))
	}
	return bytes, true
}

// Stats is what a store holds at one moment.
type Stats struct {
	Keys       int64 // that readers see
	Tombstones int64
	Entries    int64 // of all facets, tombstones included
	Used       int64 // bytes that the memory limit bounds
	Limit      int64 // bytes, 0 for none
	Excess     int64 // entries of others that were taken though a client's would not have been
	Mapped     int64 // bytes taken from the system beside the Go heap, for entries and tables
	LogChanges int64 // changes in the log
	LogBytes   int64 // bytes of the entries that the log refers to
	Quarantine int64 // bytes of superseded entries that the log still needs
	Ties       int64 // equal versions with different content seen
}

// Stats counts what the store holds.
func (s *Store) Stats() Stats {
	st := Stats{Limit: s.limit.Load(), Mapped: s.arena.mappedBytes(), Ties: s.ties.Load(), Used: s.MemoryUsed(), Excess: s.excess.Load()}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		st.Keys += sh.keys
		st.Tombstones += sh.tombstones
		st.Entries += sh.entries
		st.Mapped += int64(len(sh.table.mem))
		sh.mu.RUnlock()
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	st.LogChanges = int64(s.log.head - s.log.tail)
	st.LogBytes = s.log.bytes
	st.Quarantine = s.log.parked
	return st
}
