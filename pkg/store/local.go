package store

import (
	"context"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// checkWrite returns why a client may not write key now, or the physical clock's
// milliseconds for the stamp if it may.
func (s *Store) checkWrite(key []byte) (millis int64, err error) {
	if err := CheckKey(key); err != nil {
		return 0, err
	}
	return s.checkStamps(1)
}

// checkStamps is checkWrite for n stamps and any keys.
func (s *Store) checkStamps(n int) (millis int64, err error) {
	if err := s.readOnly.err(); err != nil {
		return 0, err
	}
	millis = s.clock.Physical()
	return millis, s.reserved.cover(millis, n)
}

// CheckKey returns kv.ErrInvalidKey or kv.ErrKeyTooLong for what no client may
// use as a key.
func CheckKey(key []byte) error {
	switch {
	case len(key) == 0:
		return kv.ErrInvalidKey
	case len(key) > kv.MaxKeyLen:
		return kv.ErrKeyTooLong
	}
	return nil
}

// Set stores a value under a key. The ticket is durable when Wait says so.
//
// Like all writes it fails with kv.ErrInvalidKey, kv.ErrKeyTooLong,
// kv.ErrValueTooLong, kv.ErrStorageFull or a *kv.ReadOnlyError, and has then
// changed nothing.
func (s *Store) Set(key, value []byte) (journal.Ticket, error) {
	millis, err := s.checkWrite(key)
	if err != nil {
		return 0, err
	}
	if len(value) > kv.MaxValueLen {
		return 0, kv.ErrValueTooLong
	}
	sh, hash := s.locate(key)
	sh.mu.Lock()
	ticket, err := s.setLocked(sh, hash, &kv.Entry{Key: key, Value: value}, millis)
	sh.mu.Unlock()
	if err == nil {
		s.announce()
	}
	return ticket, err
}

func (s *Store) setLocked(sh *shard, hash uint32, e *kv.Entry, millis int64) (journal.Ticket, error) {
	p, d, err := s.prepare(sh, hash, e)
	if err != nil {
		return 0, err
	}
	ticket, _, err := s.commit(sh, hash, p, d, instants{now: millis})
	return ticket, err
}

// prepare finds the place of e, and writes its record but for the version unless
// that is left to the log. It checks the memory limit, so it is for local writes.
func (s *Store) prepare(sh *shard, hash uint32, e *kv.Entry) (place, draft, error) {
	if err := s.admit(sh, hash, e); err != nil {
		return place{}, draft{}, err
	}
	p := s.lookup(sh, hash, e.Key, e.Facet)
	size := entrySize(e)
	if !e.IsTombstone() && s.overLimit(int64(slotSize(size)-s.slotSizeOf(p.old))) && !e.IsReserved() {
		return place{}, draft{}, kv.ErrStorageFull
	}
	if size <= smallRecord {
		return p, draft{entry: e}, nil
	}
	r, err := s.arena.write(e)
	if err != nil {
		return place{}, draft{}, kv.ErrStorageFull
	}
	return p, draft{entry: e, ref: r}, nil
}

// commit stamps, logs and links a draft. When its version would not lie before
// at.before, it drops the draft and reports false.
func (s *Store) commit(sh *shard, hash uint32, p place, d draft, at instants) (journal.Ticket, bool, error) {
	ticket, ok, err := s.log.issue(&d, p.old, at)
	if err != nil || !ok {
		if d.ref != 0 {
			s.arena.free(d.ref, record(s.arena.at(d.ref)).size())
		}
		return 0, false, err
	}
	s.link(sh, hash, p, d.ref)
	return ticket, true, nil
}

func (s *Store) slotSizeOf(r ref) int {
	if r == 0 {
		return 0
	}
	return record(s.arena.at(r)).slotSize()
}

// Delete removes a key and reports whether it was there. A key that is absent
// here is left alone: nothing is written.
func (s *Store) Delete(key []byte) (existed bool, t journal.Ticket, err error) {
	millis, err := s.checkWrite(key)
	if err != nil {
		return false, 0, err
	}
	sh, hash := s.locate(key)
	sh.mu.Lock()
	existed, t, err = s.replaceLocked(sh, hash, key, millis, func(kv.Visible) (kv.Entry, error) {
		return kv.Entry{Key: key, Flags: kv.Tombstone}, nil
	}, mustExist)
	sh.mu.Unlock()
	if existed && err == nil {
		s.announce()
	}
	return existed, t, err
}

// absence says what a read-modify-write does with a key that is not there.
type absence bool

const (
	mustExist   absence = false
	mayBeAbsent absence = true
)

// replaceLocked writes what next makes of a key's present state, and reports
// whether the key was there. What is seen holds at the milliseconds of the
// version that is written: if an expiry falls between looking and stamping, it
// looks again.
func (s *Store) replaceLocked(sh *shard, hash uint32, key []byte, millis int64, next func(kv.Visible) (kv.Entry, error), absent absence) (existed bool, t journal.Ticket, err error) {
	for {
		seen := s.view(sh, s.head(sh, hash, key), s.readMillis)
		if !seen.OK && absent == mustExist {
			return false, 0, nil
		}
		e, err := next(seen)
		if err != nil {
			return seen.OK, 0, err
		}
		p, d, err := s.prepare(sh, hash, &e)
		if err != nil {
			return seen.OK, 0, err
		}
		t, ok, err := s.commit(sh, hash, p, d, instants{now: millis, before: seen.ExpiresAt})
		if ok || err != nil {
			return seen.OK, t, err
		}
	}
}

// Append adds suffix to the end of a key's value, which is empty if the key is
// absent. The whole new value is appended to dst. An expiry stays.
func (s *Store) Append(dst, key, suffix []byte) (value []byte, t journal.Ticket, err error) {
	return s.extend(dst, key, nil, suffix)
}

// Prepend is Append at the value's beginning.
func (s *Store) Prepend(dst, key, prefix []byte) (value []byte, t journal.Ticket, err error) {
	return s.extend(dst, key, prefix, nil)
}

func (s *Store) extend(dst, key, before, after []byte) ([]byte, journal.Ticket, error) {
	millis, err := s.checkWrite(key)
	if err != nil {
		return dst, 0, err
	}
	sh, hash := s.locate(key)
	start := len(dst)
	sh.mu.Lock()
	_, t, err := s.replaceLocked(sh, hash, key, millis, func(seen kv.Visible) (kv.Entry, error) {
		if len(before)+len(seen.Value)+len(after) > kv.MaxValueLen {
			return kv.Entry{}, kv.ErrValueTooLong
		}
		dst = append(append(append(dst[:start], before...), seen.Value...), after...)
		e := kv.Entry{Key: key, Value: dst[start:]}
		if seen.ExpiresAt != 0 {
			e.Flags, e.ExpiresAt = kv.HasExpiry, seen.ExpiresAt
		}
		return e, nil
	}, mayBeAbsent)
	sh.mu.Unlock()
	if err != nil {
		return dst[:start], 0, err
	}
	s.announce()
	return dst, t, nil
}

// MSet stores pairs of key and value, all of them or, with an error, none. No
// reader of this node sees one key's new value and then another key's old one.
// Of a key that occurs twice the last value counts.
func (s *Store) MSet(pairs [][]byte) (journal.Ticket, error) {
	var fresh [numShards]int // how many keys each shard may have to take
	for i := 0; i < len(pairs); i += 2 {
		if err := CheckKey(pairs[i]); err != nil {
			return 0, err
		}
		if len(pairs[i+1]) > kv.MaxValueLen {
			return 0, kv.ErrValueTooLong
		}
		fresh[s.shardNumber(pairs[i])]++
	}
	millis, err := s.checkStamps(len(pairs) / 2)
	if err != nil {
		return 0, err
	}
	s.lockShards(&fresh)
	ticket, err := s.msetLocked(pairs, &fresh, millis)
	s.unlockShards(&fresh)
	if err == nil {
		s.announce()
	}
	return ticket, err
}

func (s *Store) msetLocked(pairs [][]byte, fresh *[numShards]int, millis int64) (journal.Ticket, error) {
	if err := s.admitAll(pairs, fresh); err != nil {
		return 0, err
	}
	refs, err := s.fillPairs(pairs)
	var last journal.Ticket
	if err == nil {
		last, err = s.commitAll(pairs, refs, millis)
	}
	if err != nil {
		for i, r := range refs {
			s.arena.free(r, recordSize(len(pairs[2*i]), 0, len(pairs[2*i+1]), 0))
		}
		return 0, err
	}
	return last, nil
}

// commitAll stamps, logs and links the records of all pairs or, with an error, none.
func (s *Store) commitAll(pairs [][]byte, refs []ref, millis int64) (last journal.Ticket, err error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	stamp, err := s.clock.Issue(millis, len(refs))
	if err != nil {
		return 0, stampError(err)
	}
	for i, r := range refs {
		sh, hash := s.locate(pairs[2*i])
		p := s.lookup(sh, hash, pairs[2*i], nil)
		last = s.log.issueLocked(r, p.old, stamp)
		s.link(sh, hash, p, r)
		stamp++
	}
	return last, nil
}

// fillPairs writes the records of all pairs. With an error it returns those that it
// has made.
func (s *Store) fillPairs(pairs [][]byte) ([]ref, error) {
	refs := make([]ref, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		r, err := s.arena.write(&kv.Entry{Key: pairs[i], Value: pairs[i+1]})
		if err != nil {
			return refs, kv.ErrStorageFull
		}
		refs = append(refs, r)
	}
	return refs, nil
}

func (s *Store) lockShards(wanted *[numShards]int) {
	for i, n := range wanted {
		if n > 0 {
			s.shards[i].mu.Lock()
		}
	}
}

func (s *Store) unlockShards(wanted *[numShards]int) {
	for i, n := range wanted {
		if n > 0 {
			s.shards[i].mu.Unlock()
		}
	}
}

// Wait returns when a ticket is durable, at once where nothing is kept on disk.
// Errors are those of journal.Journal.
func (s *Store) Wait(ctx context.Context, t journal.Ticket) error { return s.journal.Wait(ctx, t) }
