package store

import (
	"bytes"
	"container/heap"
	"slices"

	"merklekv/pkg/kv"
)

// Get appends the value of a key to dst and reports whether the key is there.
func (s *Store) Get(dst, key []byte) (value []byte, ok bool) {
	sh, hash := s.locate(key)
	sh.mu.RLock()
	seen := s.look(sh, hash, key)
	dst = append(dst, seen.Value...)
	sh.mu.RUnlock()
	return dst, seen.OK
}

// Exists reports whether a key is there.
func (s *Store) Exists(key []byte) bool {
	sh, hash := s.locate(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return s.look(sh, hash, key).OK
}

// look returns what a reader sees of a key that a client named.
func (s *Store) look(sh *shard, hash uint32, key []byte) kv.Visible {
	if len(key) == 0 || len(sh.table.slots) == 0 {
		return kv.Visible{}
	}
	_, head := sh.table.find(s.arena, hash, key)
	return s.view(sh, head, s.readMillis)
}

// readMillis is the present for readers: what the last stamp or the physical
// clock says, whichever is later, so that what a writer saw expire is expired.
func (s *Store) readMillis() int64 { return s.clock.Read().Millis() }

// Len returns how many keys readers see. Keys that have expired and were not
// touched since may still be counted.
func (s *Store) Len() int {
	var n int64
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		n += sh.keys
		sh.mu.RUnlock()
	}
	return int(n)
}

const windowSlots = 512 // slots looked at under one hold of a shard's lock

// Scan returns the keys that begin with prefix and are greater than after, in
// the order of their bytes; after nil means from the first. It returns at most
// limit of them, the smallest, and whether there are more; limit <= 0 means all.
// Keys that are there from beginning to end are in the result; those that come
// or go meanwhile may be.
func (s *Store) Scan(prefix, after []byte, limit int) (keys [][]byte, more bool) {
	top := &smallest{limit: limit}
	for i := range s.shards {
		s.scanShard(&s.shards[i], prefix, after, top)
	}
	slices.SortFunc(top.keys, bytes.Compare)
	if limit > 0 && len(top.keys) > limit {
		return top.keys[:limit], true
	}
	return top.keys, false
}

func (s *Store) scanShard(sh *shard, prefix, after []byte, top *smallest) {
	var slots []uint64
	for from, done := uint32(0), false; !done; done = from == 0 {
		sh.mu.RLock()
		slots, from = sh.table.window(slots[:0], from, windowSlots)
		for _, slot := range slots {
			key := record(s.arena.at(slotRef(slot))).key()
			if bytes.HasPrefix(key, prefix) && (after == nil || bytes.Compare(key, after) > 0) &&
				len(key) > 0 && top.wants(key) && s.view(sh, slotRef(slot), s.readMillis).OK {
				top.add(key)
			}
		}
		sh.mu.RUnlock()
	}
}

// smallest collects keys, or with a limit the limit+1 smallest ones: a heap whose
// top is the greatest.
type smallest struct {
	keys  [][]byte
	limit int
	slab  []byte // keys are cut from it
}

func (t *smallest) Len() int           { return len(t.keys) }
func (t *smallest) Less(i, j int) bool { return bytes.Compare(t.keys[i], t.keys[j]) > 0 }
func (t *smallest) Swap(i, j int)      { t.keys[i], t.keys[j] = t.keys[j], t.keys[i] }
func (t *smallest) Push(x any)         { t.keys = append(t.keys, x.([]byte)) }
func (t *smallest) Pop() any           { panic("unreachable") }

func (t *smallest) full() bool { return t.limit > 0 && len(t.keys) > t.limit }

func (t *smallest) wants(key []byte) bool {
	return !t.full() || bytes.Compare(key, t.keys[0]) < 0
}

func (t *smallest) add(key []byte) {
	switch {
	case t.full():
		t.keys[0] = append(t.keys[0][:0:0], key...)
		heap.Fix(t, 0)
	case t.limit > 0:
		heap.Push(t, bytes.Clone(key))
	default:
		t.keys = append(t.keys, t.copy(key))
	}
}

// copy keeps many keys in few allocations.
func (t *smallest) copy(key []byte) []byte {
	if cap(t.slab)-len(t.slab) < len(key) {
		t.slab = make([]byte, 0, 64<<10)
	}
	start := len(t.slab)
	t.slab = append(t.slab, key...)
	return t.slab[start:len(t.slab):len(t.slab)]
}

const dumpBytes = 256 << 10 // copied under one hold of a shard's lock, or one key

// Dump calls fn for every entry that is held, of all facets, tombstones and
// reserved entries included, in no order, until fn returns false. Entries
// written meanwhile may or may not be seen. fn is called without any lock held;
// the entry is valid during the call only.
func (s *Store) Dump(fn func(*kv.Entry) bool) {
	var d dumper
	for i := range s.shards {
		for from, done := uint32(0), false; !done; done = from == 0 {
			from = d.window(s, &s.shards[i], from)
			for j := range d.entries {
				if !fn(&d.entries[j]) {
					return
				}
			}
		}
	}
}

type dumper struct {
	slots   []uint64
	buf     []byte
	entries []kv.Entry
	bytes   int // of the heads in the window; keeps warm from being optimised away
}

// warm touches the records of the window one after the other: they are in nobody's
// cache, and loads that do not wait for each other fetch several at a time.
func (d *dumper) warm(s *Store) {
	for _, slot := range d.slots {
		d.bytes += record(s.arena.at(slotRef(slot))).keyLen()
	}
}

// window copies the entries of some hashes from from on and returns the hash to
// go on at, 0 at the end.
func (d *dumper) window(s *Store, sh *shard, from uint32) (next uint32) {
	d.buf, d.entries = d.buf[:0], d.entries[:0]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	d.slots, next = sh.table.window(d.slots[:0], from, windowSlots)
	slices.SortFunc(d.slots, func(a, b uint64) int { return int(int64(slotHash(a)) - int64(slotHash(b))) })
	d.warm(s)
	for i, slot := range d.slots {
		// Keys of one hash stay together: the cursor cannot tell them apart.
		if len(d.buf) > dumpBytes && slotHash(slot) != slotHash(d.slots[i-1]) {
			return slotHash(slot)
		}
		for r := slotRef(slot); r != 0; r = record(s.arena.at(r)).next() {
			d.copy(s, record(s.arena.at(r)))
		}
	}
	return next
}

func (d *dumper) copy(s *Store, rec record) {
	start := len(d.buf)
	d.buf = append(d.buf, rec[:rec.size()]...)
	copied := record(d.buf[start:])
	d.entries = append(d.entries, copied.entry(s.log.name(rec.instance())))
}
