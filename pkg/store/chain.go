package store

import "merklekv/pkg/kv"

// The records of one key form a chain through their next fields: the plain
// register first if there is one, the other facets in no order. The table holds
// the chain's head. All functions here run under the shard's lock.

// place is where a record goes: a table slot, the chain there, and the record
// that it replaces.
type place struct {
	slot int
	head ref // first of the key's chain, 0 if the key is new
	prev ref // before old, 0 if old is the head or there is no old
	old  ref // record of the same facet, 0 if there is none
}

// lookup finds the place of (key, facet). The table has room.
func (s *Store) lookup(sh *shard, hash uint32, key, facet []byte) place {
	slot, head := sh.table.find(s.arena, hash, key)
	p := place{slot: slot, head: head}
	for r, prev := head, ref(0); r != 0; {
		rec := record(s.arena.at(r))
		if string(rec.facet()) == string(facet) {
			p.prev, p.old = prev, r
			break
		}
		r, prev = rec.next(), r
	}
	return p
}

// link puts record r at its place and takes the old one off the chain. It keeps
// the shard's counts.
func (s *Store) link(sh *shard, hash uint32, p place, r ref) {
	rec := record(s.arena.at(r))
	grown := rec.slotSize() - s.slotSizeOf(p.old)
	if grown != 0 {
		s.used.Add(int64(grown))
	}
	sh.entries++
	s.count(sh, rec, +1)
	switch {
	case p.old != 0:
		old := record(s.arena.at(p.old))
		sh.entries--
		s.count(sh, old, -1)
		rec.setNext(old.next())
		s.relink(sh, hash, p, r)
	case p.head != 0 && rec.facetLen() > 0:
		head := record(s.arena.at(p.head))
		rec.setNext(head.next())
		head.setNext(r)
	default:
		rec.setNext(p.head)
		sh.table.put(p.slot, r, hash, p.head == 0)
	}
}

func (s *Store) relink(sh *shard, hash uint32, p place, r ref) {
	if p.prev != 0 {
		record(s.arena.at(p.prev)).setNext(r)
		return
	}
	sh.table.put(p.slot, r, hash, false)
}

// count adds a plain register to the shard's counts, or takes it off.
func (s *Store) count(sh *shard, rec record, n int64) {
	switch {
	case rec.facetLen() > 0 || rec.keyLen() == 0:
	case rec.flags()&kv.Tombstone != 0:
		sh.tombstones += n
	case sh.aboveMark(s, rec):
		sh.keys += n
	}
}

func (sh *shard) aboveMark(s *Store, rec record) bool {
	return sh.mark.IsZero() || sh.mark.Less(s.version(rec))
}

func (s *Store) version(rec record) kv.Version {
	return kv.Version{HLC: rec.hlc(), Instance: s.log.name(rec.instance())}
}

// view returns what a reader of the chain at head sees. The result shares the
// record's memory.
func (s *Store) view(sh *shard, head ref, now func() int64) kv.Visible {
	if head == 0 {
		return kv.Visible{}
	}
	rec := record(s.arena.at(head))
	if rec.next() == 0 && rec.facetLen() == 0 {
		e := rec.entry(s.log.name(rec.instance()))
		return kv.View([]kv.Entry{e}, sh.mark, s.instant(&e, now))
	}
	var buf [8]kv.Entry
	entries := s.chain(head, buf[:0])
	return kv.View(entries, sh.mark, now())
}

// instant asks for the time only when it matters.
func (s *Store) instant(e *kv.Entry, now func() int64) int64 {
	if e.Flags&kv.HasExpiry == 0 {
		return 0
	}
	return now()
}

// chain appends the entries of the chain at head. They share the slots' memory.
func (s *Store) chain(head ref, entries []kv.Entry) []kv.Entry {
	for r := head; r != 0; {
		rec := record(s.arena.at(r))
		entries = append(entries, rec.entry(s.log.name(rec.instance())))
		r = rec.next()
	}
	return entries
}
