package main

// museum lists the bugs, most of which were made somewhere once.
var museum = []exhibit{
	{"equal stamps are a tie", "busy", []edit{{
		"pkg/kv/entry.go", "return cmp.Compare(v.Instance, w.Instance)", "return 0",
	}}},
	{"the smaller instance wins here and there", "busy", []edit{{
		"pkg/store/remote.go", "	case c > 0:\n		return kv.Applied", "	case c > 0 || e.Version.HLC == held.Version.HLC && e.Version.Instance != held.Version.Instance:\n		return kv.Applied",
	}}},
	{"a delete is stamped like the write before it", "quiet", []edit{{
		"pkg/store/log.go", "	ticket, freed := l.stampLocked(&c, stamp)\n	l.mu.Unlock()\n	l.free(&freed)\n	return ticket, true, nil",
		"	if c.rec.flags()&kv.Tombstone != 0 && l.lastClock != 0 {\n		stamp = l.lastClock\n	}\n	ticket, freed := l.stampLocked(&c, stamp)\n	l.mu.Unlock()\n	l.free(&freed)\n	return ticket, true, nil",
	}}},
	{"deletes of others are dropped", "quiet", []edit{{
		"pkg/store/remote.go", "	sh, hash := s.locate(c.Entry.Key)\n	sh.mu.Lock()\n	outcome := s.applyLocked",
		"	if c.Entry.IsTombstone() {\n		return kv.Known\n	}\n	sh, hash := s.locate(c.Entry.Key)\n	sh.mu.Lock()\n	outcome := s.applyLocked",
	}}},
	{"what loses is not logged", "quiet", []edit{{
		"pkg/store/remote.go", "		s.log.receive(r, c.Entry.Version, c.Seq, r)\n		return outcome", "		return outcome",
	}}},
	{"the hash leaves the version out", "mixed", []edit{{
		"pkg/merkle/tag.go", "	p = binary.BigEndian.AppendUint64(p, uint64(e.Version.HLC))\n	p = binary.BigEndian.AppendUint64(p, e.Version.Instance)\n", "",
	}}},
	{"a vector is adopted whatever the session came to", "skewed", []edit{{
		"pkg/antientropy/session_turn.go", "	return equal, equal || clean && (!known || excused)", "	return equal, true || clean && (!known || excused)",
	}}},
	{"a vector is adopted though something was put off", "skewed", []edit{{
		"pkg/replication/gaps.go", "if !done.Full || st.late || it.Instance == c.set.Instance {", "if !done.Full || it.Instance == c.set.Instance {",
	}}},
	{"what is put off counts as received", "skewed", []edit{{
		"pkg/replication/core.go", "			r.late = true\n			continue\n", "			r.late = true\n",
	}}},
	{"a session only takes", "mixed", []edit{{
		"pkg/antientropy/session_entries.go", "	switch s.opts.Replica.Apply(c) {", "	if push {\n		return\n	}\n	switch s.opts.Replica.Apply(c) {",
	}}},
	{"sessions leave deletes out", "mixed", []edit{{
		"pkg/store/held.go", "	return s.copiesLocked(dst, sh, hash, key)\n}", "	for _, e := range s.copiesLocked(nil, sh, hash, key) {\n		if !e.IsTombstone() {\n			dst = append(dst, e)\n		}\n	}\n	return dst\n}",
	}}},
	{"full copies leave deletes out", "mixed", []edit{{
		"pkg/replication/answer.go", "	s.add(&kv.Change{Origin: e.Version.Instance, Entry: *e})", "	if !e.IsTombstone() {\n		s.add(&kv.Change{Origin: e.Version.Instance, Entry: *e})\n	}",
	}}},
	{"an epoch ends and its clock does not", "clocks", []edit{{
		"pkg/store/dirty.go", "	s.clock.Raise(hlc.LastOf(epoch)) // stamping takes the log's lock too\n", "	_ = hlc.LastOf(epoch)\n",
	}}},
	{"what comes late stays out of closed epochs", "quiet", []edit{{
		"pkg/antientropy/index.go", "	x.late = x.late || epoch <= newest\n", "	_ = newest\n",
	}}},
	{"roots and vectors are not of one moment", "quiet", []edit{{
		"pkg/replication/roots.go", "	if c.set.Closed != nil && oldest <= c.set.Closed().Sealed {", "	if c.set.Closed != nil && oldest < 0 {",
	}}},
	{"a gap does not hold roots back", "lossy", []edit{{
		"pkg/replication/roots.go", "e < c.roots.from || e >= c.roots.late || e >= held {", "e < c.roots.from || e >= c.roots.late || e > 1<<60 && e >= held {",
	}}},
	{"stamps of others are not observed", "quiet", []edit{{
		"pkg/store/bound.go", "	_, ok := s.clock.Observe(t)\n	return ok", "	return t.Millis() <= s.clock.Physical()+s.clock.MaxDrift()",
	}}},
	{"a stamp is given twice", "quiet", []edit{{
		"pkg/hlc/clock.go", "		first = max(now, last+1)\n", "		first = now\n",
	}}},
	{"a gap counts as closed", "lossy", []edit{{
		"pkg/vector/vector.go", "	if seq == p.prefix.Seq+1 {\n		p.advance", "	if seq > p.prefix.Seq {\n		p.advance",
	}}},
	{"gaps are left to sessions, which are not run", "lossy", []edit{
		{"pkg/replication/gaps.go", "func (c *Core) ripe(w *want) bool {\n	if c.now < w.next {", "func (c *Core) ripe(w *want) bool {\n	if c.now >= 0 {"},
		{"pkg/antientropy/planner.go", "	starts = starts[:min(len(starts), max(0, room))]", "	starts = nil"},
	}},
	{"roots of different epochs are compared", "quiet", []edit{{
		"pkg/replication/roots.go", "			if own[j].Epoch == e.Epoch {\n				v.Own", "			if j == 0 {\n				v.Own",
	}}},
	{"peers are told the median of what they said", "skewed", []edit{{
		"pkg/replication/core.go", "Wall: c.set.Wall(), ", "Wall: c.set.Millis(), ",
	}}},
	{"a gap that an adoption uncovers is new", "short", []edit{{
		"pkg/replication/adopt.go", "openGap{c.vec.Prefix(it.Instance).Seq, g.since}", "openGap{g.prefix, g.since}",
	}}},
	{"a root is told though superseded keys are not in it", "short", []edit{{
		"pkg/replication/adopt.go", "if c.adoptMarks(p.head, e) && !c.hasRoot(e) {", "if c.adoptMarks(p.head, e) && !c.hasRoot(e) && e.Epoch < 0 {",
	}}},
	{"what is made during a pull counts as refused", "quiet", []edit{{
		"pkg/replication/gaps.go", "!done.Full && w.prefix < held[origin] {", "!done.Full && w.prefix < 1<<62+held[origin] {",
	}}},
	{"after superseded keys nobody looks for minutes", "skewed", []edit{{
		"pkg/antientropy/planner.go", "		m.delay = min(m.delay, afterMoot)\n", "		_ = afterMoot\n",
	}}},
	{"a write is acknowledged before the sync", "power", []edit{{
		"pkg/store/local.go", "	sh.mu.Unlock()\n	if err == nil {\n		s.announce()\n	}\n	return ticket, err\n}\n\nfunc (s *Store) setLocked",
		"	sh.mu.Unlock()\n	if err == nil {\n		s.announce()\n	}\n	return 0 * ticket, err\n}\n\nfunc (s *Store) setLocked",
	}}},
	{"an MSET waits for the first of its writes", "power", []edit{{
		"pkg/store/local.go", "		last = s.log.issueLocked(r, p.old, stamp)", "		if t := s.log.issueLocked(r, p.old, stamp); last == 0 {\n			last = t\n		}",
	}}},
	{"the vector is on disk before the entries", "power", []edit{{
		"pkg/store/log.go", "	return l.journal.Append(&kv.Change{Origin: instance, Seq: seq, Entry: rec.entry(instance)})",
		"	l.journal.Note(instance, seq, rec.entry(instance).Version.HLC)\n	return l.journal.Append(&kv.Change{Origin: instance, Seq: seq, Entry: rec.entry(instance)})",
	}}},
	{"what lost takes the winner's place in the journal", "power", []edit{{
		"pkg/store/log.go", "	case gone != r:\n", "	case gone != r || seq != 0:\n",
	}}},
	{"what comes without its place is not journalled", "power", []edit{{
		"pkg/store/log.go", "	case gone != r:\n", "	case gone != r && seq != 0:\n",
	}}},
	{"what is vouched for overtakes the entries", "power", []edit{{
		"test/sim/journal.go", "	return d.append(record{place: m, vouch: true})", "	d.kept.take(&record{place: m, vouch: true})\n	return d.appended",
	}}},
	{"a session's vector is vouched for when it begins", "power", []edit{{
		"pkg/replication/adopt.go", "	for i := range p.head.Epochs {\n		if e := &p.head.Epochs[i]; e.Epoch == a.epoch",
		"	for i := range p.head.Epochs {\n		if e := &p.head.Epochs[i]; e.Epoch >= a.epoch {\n			c.adoptMarks(p.head, e)\n		}\n		if e := &p.head.Epochs[i]; e.Epoch == a.epoch",
	}}},
	{"the clock's bound is not written", "power", []edit{{
		"pkg/store/bound.go", "r.disk.Reserve(bound); err", "r.disk.Reserve(1); err",
	}}},
	{"the newest mark of the journal is forgotten", "power", []edit{{
		"pkg/replication/resume.go", "	for _, m := range newest {", "	for _, m := range newest[min(1, len(newest)):] {",
	}}},
	{"who has written and is not known as a member is not asked", "short", []edit{{
		"pkg/antientropy/converged.go", "case !h.Params, ok && r.Root != own.Root, !ok && (h.Wrote || h.holdsMore(s.Vector)):", "case !h.Params, ok && r.Root != own.Root:",
	}}},
}
