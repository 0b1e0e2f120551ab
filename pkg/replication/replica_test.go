package replication

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/vector"
)

// mapReplica is a store as small as can be: a map and a log in a slice.
type mapReplica struct {
	instance uint64
	clock    *hlc.Clock
	ring     int // changes kept in the log
	changed  chan struct{}

	mu       sync.Mutex
	entries  map[string]kv.Entry
	log      []kv.Change
	tail     uint64 // position of log[0]
	floors   map[uint64]uint64
	last     vector.Mark
	marks    []vector.Mark // the last own change of each epoch
	greatest kv.Version
	record   bool              // whether all is filled
	all      []kv.Entry        // by position in the log
	merges   map[[2]uint64]int // by origin and sequence: how often it was merged
	received *vector.Vector    // what a journal would know
	had      *vector.Vector    // what that was at the start
	above    map[uint64]uint64 // see kept
	from     int64             // roots of epochs below are not known
}

func newMapReplica(instance uint64, millis func() int64, ring int) *mapReplica {
	return &mapReplica{
		instance: instance, clock: hlc.NewClock(millis, 60_000), ring: ring, changed: make(chan struct{}, 1),
		entries: make(map[string]kv.Entry), floors: make(map[uint64]uint64), merges: make(map[[2]uint64]int),
		received: vector.New(), had: vector.New(),
	}
}

// kept is what a replica leaves behind for its next start.
type kept struct {
	entries  map[string]kv.Entry
	received []journal.Mark
	above    map[uint64]uint64 // by origin: the end of what was received above a gap, which a journal does not tell
}

// keep returns what is kept of the present.
func (m *mapReplica) keep() *kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := &kept{entries: maps.Clone(m.entries), above: make(map[uint64]uint64)}
	for _, id := range m.received.Instances() {
		for _, high := range m.received.Runs(id) {
			k.above[id] = high
		}
		if p := m.received.Prefix(id); p.Seq > 0 {
			k.received = append(k.received, journal.Mark{Origin: id, Seq: p.Seq, Stamp: p.HLC})
		}
	}
	return k
}

// load takes in what was kept, as the entries of the new start: none is in the log.
func (m *mapReplica) load(k *kept) {
	maps.Copy(m.entries, k.entries)
	m.above = k.above
	for _, e := range m.entries {
		m.clock.Raise(e.Version.HLC)
		if m.greatest.Less(e.Version) {
			m.greatest = e.Version
		}
		m.all = append(m.all, e)
		m.from = max(m.from, e.Version.Epoch())
	}
	for _, r := range k.received {
		m.received.Adopt(r.Origin, vector.Mark{Seq: r.Seq, HLC: r.Stamp})
		m.had.Adopt(r.Origin, vector.Mark{Seq: r.Seq, HLC: r.Stamp})
	}
}

// set writes a key as a client of this replica would.
func (m *mapReplica) set(key string, value []byte) kv.Version {
	m.mu.Lock()
	m.last = vector.Mark{Seq: m.last.Seq + 1, HLC: max(hlc.At(m.clock.Physical()), m.clock.Last()+1)}
	m.clock.Raise(m.last.HLC)
	if n := len(m.marks); n > 0 && m.marks[n-1].HLC.Epoch() == m.last.HLC.Epoch() {
		m.marks = m.marks[:n-1]
	}
	m.marks = append(m.marks, m.last)
	v := kv.Version{HLC: m.last.HLC, Instance: m.instance}
	e := kv.Entry{Key: []byte(key), Version: v, Value: value}
	e = e.Clone()
	m.entries[key] = e
	m.greatest = v
	m.appendLocked(kv.Change{Origin: m.instance, Seq: m.last.Seq, Entry: e})
	m.received.Add(m.instance, m.last.Seq, m.last.HLC)
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return v
}

func (m *mapReplica) appendLocked(c kv.Change) {
	m.log = append(m.log, c)
	if m.record {
		m.all = append(m.all, c.Entry)
	}
	for len(m.log) > m.ring {
		if old := m.log[0]; old.Seq > 0 {
			m.floors[old.Origin] = max(m.floors[old.Origin], old.Seq+1)
		}
		m.log = m.log[1:]
		m.tail++
	}
}

func (m *mapReplica) Instance() uint64 { return m.instance }

func (m *mapReplica) OwnMarks(fn func(uint64, hlc.Timestamp)) {
	m.mu.Lock()
	marks := slices.Clone(m.marks[max(0, len(m.marks)-keptEpochs):])
	m.mu.Unlock()
	for _, mark := range marks {
		fn(mark.Seq, mark.HLC)
	}
}

func (m *mapReplica) Greatest() kv.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.greatest
}

func (m *mapReplica) Apply(c *kv.Change) kv.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.clock.Observe(c.Entry.Version.HLC); !ok {
		return kv.Deferred
	}
	if c.Seq != 0 {
		m.merges[[2]uint64{c.Origin, c.Seq}]++
	}
	e := c.Entry.Clone()
	if m.greatest.Less(e.Version) {
		m.greatest = e.Version
	}
	outcome := kv.Applied
	if old, there := m.entries[string(e.Key)]; there {
		switch kv.Compare(&old, &e) {
		case 0:
			outcome = kv.Known
		case 1:
			outcome = kv.Lost
		}
	}
	if outcome == kv.Applied {
		m.entries[string(e.Key)] = e
	}
	m.appendLocked(kv.Change{Origin: c.Origin, Seq: c.Seq, Entry: e})
	if c.Seq != 0 {
		m.received.Add(c.Origin, c.Seq, e.Version.HLC)
	}
	return outcome
}

func (m *mapReplica) LogHead() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tail + uint64(len(m.log))
}

func (m *mapReplica) ReadLog(pos uint64, max int, fn func(*kv.Change) bool) (uint64, bool) {
	m.mu.Lock()
	lost := pos < m.tail
	if lost {
		pos = m.tail
	}
	part := m.log[min(pos-m.tail, uint64(len(m.log))):]
	part = slices.Clone(part[:min(max, len(part))])
	m.mu.Unlock()
	for i := range part {
		pos++
		if !fn(&part[i]) {
			break
		}
	}
	return pos, lost
}

func (m *mapReplica) LogFloor(origin uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(1, m.floors[origin])
}

func (m *mapReplica) RaiseLogFloor(origin, seq uint64, stamp hlc.Timestamp) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.floors[origin] = max(m.floors[origin], seq+1)
	m.received.Adopt(origin, vector.Mark{Seq: seq, HLC: stamp})
}

func (m *mapReplica) Changed() <-chan struct{} { return m.changed }

func (m *mapReplica) Dump(fn func(*kv.Entry) bool) {
	m.mu.Lock()
	all := slices.Collect(maps.Values(m.entries))
	m.mu.Unlock()
	for i := range all {
		if !fn(&all[i]) {
			return
		}
	}
}

// value returns what a key holds.
func (m *mapReplica) value(key string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	return e.Value, ok
}

func (m *mapReplica) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// difference returns the first difference of two replicas' entries, "" if none.
func (m *mapReplica) difference(other *mapReplica) string {
	m.mu.Lock()
	mine := maps.Clone(m.entries)
	m.mu.Unlock()
	other.mu.Lock()
	theirs := maps.Clone(other.entries)
	other.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(mine)) {
		a, b := mine[k], theirs[k]
		if a.Version != b.Version || !bytes.Equal(a.Value, b.Value) {
			return fmt.Sprintf("key %q: %v here, %v there", k, a.Version, b.Version)
		}
	}
	if len(mine) != len(theirs) {
		return fmt.Sprintf("%d entries here, %d there", len(mine), len(theirs))
	}
	return ""
}
