package store

import "merklekv/pkg/kv"

// The memory limit bounds what clients make the store grow by: slots of records,
// and the tables over them. A write that grows nothing is always taken, however far
// above the limit the entries of other nodes have brought it, and a refused write
// leaves no byte behind. Writes that run at the same time in different shards do not
// know of each other: together they may end above the limit by what they write.

// overLimit reports whether growing by so many bytes would break the limit.
func (s *Store) overLimit(growth int64) bool {
	limit := s.limit.Load()
	return limit > 0 && growth > 0 && s.MemoryUsed()+growth > limit
}

// reserve makes room for n more keys in a shard and accounts for it.
func (s *Store) reserve(sh *shard, n int) error {
	before := sh.table.bytes()
	err := sh.table.reserve(n)
	if grown := sh.table.bytes() - before; grown != 0 {
		s.used.Add(grown)
	}
	if err != nil {
		return kv.ErrStorageFull
	}
	return nil
}

// head returns the first record of a key, 0 if there is none. The table may be empty.
func (s *Store) head(sh *shard, hash uint32, key []byte) ref {
	if len(sh.table.slots) == 0 {
		return 0
	}
	_, head := sh.table.find(s.arena, hash, key)
	return head
}

// admit makes room in the table for what a client writes, unless the memory limit
// forbids that. A key that is there needs no room.
func (s *Store) admit(sh *shard, hash uint32, e *kv.Entry) error {
	growth := sh.table.growth(1)
	if growth == 0 || s.head(sh, hash, e.Key) != 0 {
		return nil
	}
	if s.overLimit(growth+int64(slotSize(entrySize(e)))) && !e.IsReserved() {
		return kv.ErrStorageFull
	}
	return s.reserve(sh, 1)
}

// admitAll is admit for the pairs of an MSet, which fit as a whole or not at all.
// fresh says how many of them each shard has.
func (s *Store) admitAll(pairs [][]byte, fresh *[numShards]int) error {
	if !s.overLimit(s.mostGrowth(pairs, fresh)) {
		return s.reserveAll(fresh)
	}
	growth, keys := s.exactGrowth(pairs)
	for i := range keys {
		growth += s.shards[i].table.growth(keys[i])
	}
	if s.overLimit(growth) {
		return kv.ErrStorageFull
	}
	return s.reserveAll(&keys)
}

func (s *Store) reserveAll(fresh *[numShards]int) error {
	for i, n := range fresh {
		if n == 0 {
			continue
		}
		if err := s.reserve(&s.shards[i], n); err != nil {
			return err
		}
	}
	return nil
}

// mostGrowth returns what pairs take if every key is new.
func (s *Store) mostGrowth(pairs [][]byte, fresh *[numShards]int) (bytes int64) {
	for i, n := range fresh {
		bytes += s.shards[i].table.growth(n)
	}
	for i := 0; i < len(pairs); i += 2 {
		bytes += int64(slotSize(recordSize(len(pairs[i]), 0, len(pairs[i+1]), 0)))
	}
	return bytes
}

// exactGrowth returns by how much the slots of records grow when pairs are written,
// and how many keys that adds to each shard. Of a key that occurs twice the last
// value counts.
func (s *Store) exactGrowth(pairs [][]byte) (bytes int64, keys [numShards]int) {
	sizes := make(map[string]int, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		sizes[string(pairs[i])] = slotSize(recordSize(len(pairs[i]), 0, len(pairs[i+1]), 0))
	}
	for name, size := range sizes {
		key := []byte(name)
		sh, hash := s.locate(key)
		bytes += int64(size)
		if s.head(sh, hash, key) == 0 {
			keys[s.shardNumber(key)]++
		} else {
			bytes -= int64(s.slotSizeOf(s.lookup(sh, hash, key, nil).old))
		}
	}
	return bytes, keys
}
