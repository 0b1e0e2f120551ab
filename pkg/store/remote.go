package store

import (
	"merklekv/pkg/kv"
)

// Apply merges a change that another node made and says what became of it. The
// store copies what it keeps. It never announces the change, so nothing is sent
// on.
//
// A change that lost is logged all the same: it belongs to the sets of earlier
// epochs, and to what peers may ask for. Deferred means that nothing was taken
// note of: the version is too far in the future, there is no memory, or there are
// more instances than any cluster has; the change has to be offered again. c must
// be valid.
func (s *Store) Apply(c *kv.Change) kv.Outcome {
	if c.Seq > kv.MaxSeq {
		return kv.Deferred // nobody counts that far; its due time never comes
	}
	if !s.observe(c.Entry.Version.HLC) {
		return kv.Deferred
	}
	sh, hash := s.locate(c.Entry.Key)
	sh.mu.Lock()
	outcome := s.applyLocked(sh, hash, c)
	sh.mu.Unlock()
	if outcome == kv.Applied && c.Entry.IsMark() {
		s.raiseMarks(c.Entry.Version)
	}
	return outcome
}

func (s *Store) applyLocked(sh *shard, hash uint32, c *kv.Change) kv.Outcome {
	instance, known := s.log.intern(c.Entry.Version.Instance)
	if !known || s.reserve(sh, 1) != nil {
		return kv.Deferred
	}
	p := s.lookup(sh, hash, c.Entry.Key, c.Entry.Facet)
	outcome := s.contest(p.old, &c.Entry)
	if outcome == kv.Known {
		// Told of again, now perhaps with its number: whoever asks this node for
		// that number must find it in the log.
		if c.Seq != 0 {
			s.log.receive(p.old, c.Entry.Version, c.Seq, 0)
		}
		return outcome
	}
	r, err := s.arena.write(&c.Entry)
	if err != nil {
		s.logger.Error("no memory for a replicated entry, it will be fetched again", "err", err)
		return kv.Deferred
	}
	record(s.arena.at(r)).setVersion(c.Entry.Version.HLC, instance)
	if outcome == kv.Lost {
		s.log.receive(r, c.Entry.Version, c.Seq, r)
		return outcome
	}
	if s.overLimit(int64(record(s.arena.at(r)).slotSize() - s.slotSizeOf(p.old))) {
		s.excess.Add(1)
	}
	s.log.receive(r, c.Entry.Version, c.Seq, p.old)
	s.link(sh, hash, p, r)
	return outcome
}

// contest says how an entry fares against the record that holds its place.
func (s *Store) contest(old ref, e *kv.Entry) kv.Outcome {
	if old == 0 {
		return kv.Applied
	}
	rec := record(s.arena.at(old))
	held := rec.entry(s.log.name(rec.instance()))
	c := kv.Compare(e, &held)
	if c != 0 && e.Version == held.Version {
		s.ties.Add(1)
		s.logger.Error("one version with two contents: corruption on some node",
			"key", string(e.Key), "version", e.Version.String())
	}
	switch {
	case c > 0:
		return kv.Applied
	case c < 0:
		return kv.Lost
	}
	return kv.Known
}
