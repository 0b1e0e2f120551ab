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
		"pkg/store/remote.go", "	if _, ok := s.clock.Observe(c.Entry.Version.HLC); !ok {", "	if c.Entry.Version.HLC.Millis() > s.clock.Physical()+s.clock.MaxDrift() {",
	}}},
	{"a stamp is given twice", "quiet", []edit{{
		"pkg/hlc/clock.go", "		next := max(now, last+1)\n		if ahead", "		next := now\n		if ahead",
	}}},
	{"a gap counts as closed", "lossy", []edit{{
		"pkg/replication/vector.go", "	if seq == p.prefix.Seq+1 {\n		p.advance", "	if seq > p.prefix.Seq {\n		p.advance",
	}}},
	{"gaps are left to sessions, which are not run", "lossy", []edit{
		{"pkg/replication/gaps.go", "	if c.now < w.next {\n		return false\n	}\n	return w.urgent", "	if c.now >= 0 {\n		return false\n	}\n	return w.urgent"},
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
}
