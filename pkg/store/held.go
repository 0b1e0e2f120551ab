package store

import "merklekv/pkg/kv"

// Entries appends copies of all entries that are held of a key, one for each
// facet, those included that no reader sees. The empty key is the reserved one.
// The order says nothing.
func (s *Store) Entries(dst []kv.Entry, key []byte) []kv.Entry {
	sh, hash := s.locate(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return s.copiesLocked(dst, sh, hash, key)
}

// Held returns what Entries does, and what of it a reader sees.
func (s *Store) Held(key []byte) []kv.Held {
	sh, hash := s.locate(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return kv.HeldOf(s.copiesLocked(nil, sh, hash, key), sh.mark, s.readMillis())
}

func (s *Store) copiesLocked(dst []kv.Entry, sh *shard, hash uint32, key []byte) []kv.Entry {
	if len(sh.table.slots) == 0 {
		return dst
	}
	_, head := sh.table.find(s.arena, hash, key)
	shared := s.chain(head, dst)
	for i := len(dst); i < len(shared); i++ {
		shared[i] = shared[i].Clone()
	}
	return shared
}
