package store

import (
	"sync"
	"sync/atomic"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// changeLog is the order in which this replica made and received entries, those
// that lost the merge included. It is three things in one:
//
//   - the sequence of this instance: stamping, numbering and logging are one
//     critical section, so the order of sequence numbers is that of versions and
//     of the log;
//   - the ring from which peers are served what they missed, bounded by bytes;
//   - the dirty log from which an index is brought up to date, kept as long as
//     its reader needs it.
//
// It holds refs, not copies. A record that is no longer in the table is in
// quarantine until the log has forgotten every mention of it.
//
// Positions count changes from 0. [tail, head) are in the log.
type changeLog struct {
	arena    *arena
	clock    *hlc.Clock
	journal  journal.Journal // nil: nothing is kept
	instance uint64
	limit    int64 // bytes of changes in the ring

	// names holds the instance for each index, the own one first. It is replaced
	// as a whole when one is added, and read without the lock.
	names atomic.Pointer[[]uint64]

	mu         sync.Mutex
	blocks     []*logBlock // of blockLen positions each
	first      uint64      // position of blocks[0][0], a multiple of blockLen
	spare      *logBlock
	head, tail uint64
	bytes      int64 // of the records in [tail, head)
	quarantine fifo
	parked     int64 // bytes in quarantine
	ready      readySlots
	pins       []uint64          // positions that readers still need
	index      map[uint64]uint32 // of names
	floors     []uint64          // by instance index: every applied sequence from here on is in the log
	lastSeq    uint64
	lastClock  hlc.Timestamp      // of lastSeq
	greatest   kv.Version         // issued or merged
	marks      [keptMarks]ownMark // oldest first, zero where there is none
}

const blockLen = 4096

// logBlock holds what the log must know of a change without touching its record,
// which by then is in nobody's cache.
type logBlock struct {
	refs  [blockLen]ref
	gone  [blockLen]ref    // what left the table or, the change itself, never got there; 0 for nothing
	meta  [blockLen]uint64 // sequence (48 bits) above instance index (16 bits)
	units [blockLen]uint16 // slot size in units of 8 bytes
}

const (
	instanceBits = 16
	instanceMask = 1<<instanceBits - 1 // as an index: it is in the record
	bigSlot      = 1<<16 - 1           // as a size: it is in the record
)

func (b *logBlock) set(i uint64, r, gone ref, seq uint64, instance uint32, size int) {
	b.refs[i], b.gone[i] = r, gone
	b.meta[i] = seq<<instanceBits | uint64(min(instance, instanceMask))
	b.units[i] = uint16(min(size>>unitShift, bigSlot))
}

// dead is a record that left the table when the log's head was at pos.
type dead struct {
	pos  uint64
	ref  ref
	size uint32 // of its slot, bytes
}

func newChangeLog(a *arena, clock *hlc.Clock, instance uint64, limit int64) *changeLog {
	l := &changeLog{
		arena: a, clock: clock, instance: instance, limit: limit,
		index: map[uint64]uint32{instance: 0}, floors: []uint64{1},
	}
	l.names.Store(&[]uint64{instance})
	return l
}

// instants bound the version of a local write, in Unix milliseconds.
type instants struct {
	now    int64 // by the physical clock, read ahead of the locks
	before int64 // the version must lie before it; 0 is never
}

// issue gives a draft the next version and sequence of this instance and logs it;
// old is the record that it replaces, 0 for none. It stamps nothing and reports false
// when the version would lie at or after at.before. It returns a *kv.ReadOnlyError
// when the clock issues nothing, and kv.ErrStorageFull when there is no memory.
func (l *changeLog) issue(d *draft, old ref, at instants) (journal.Ticket, bool, error) {
	c := addition{gone: l.leaving(old)}
	if d.ref != 0 {
		l.describe(&c, d.ref)
	}
	l.mu.Lock()
	stamp, err := l.clock.Issue(at.now, 1)
	if err != nil {
		l.mu.Unlock()
		return 0, false, stampError(err)
	}
	if at.before != 0 && stamp.Millis() >= at.before {
		l.mu.Unlock()
		return 0, false, nil
	}
	if d.ref == 0 {
		if err := l.writeLocked(d); err != nil {
			l.mu.Unlock()
			return 0, false, kv.ErrStorageFull
		}
		l.describe(&c, d.ref)
	}
	ticket, freed := l.stampLocked(&c, stamp)
	l.mu.Unlock()
	l.free(&freed)
	return ticket, true, nil
}

// issueLocked is issue for a record that is written, and a stamp that is issued. The
// lock was taken before that: the order of stamps is that of the log.
func (l *changeLog) issueLocked(r, old ref, stamp hlc.Timestamp) journal.Ticket {
	c := addition{gone: l.leaving(old)}
	l.describe(&c, r)
	ticket, freed := l.stampLocked(&c, stamp)
	l.free(&freed)
	return ticket
}

func (l *changeLog) stampLocked(c *addition, stamp hlc.Timestamp) (journal.Ticket, freedSlots) {
	c.rec.setVersion(stamp, 0)
	l.markLocked(stamp)
	l.lastSeq++
	l.lastClock = stamp
	l.greatest = kv.Version{HLC: stamp, Instance: l.instance}
	freed := l.appendLocked(c, l.lastSeq)
	return l.journalLocked(c.rec, l.instance, l.lastSeq), freed
}

// addition is a change about to be logged, with all that can be found out before
// the lock is taken.
type addition struct {
	ref  ref
	rec  record
	size int  // of its slot, bytes
	gone dead // the record that leaves the table, ref 0 for none
}

func (l *changeLog) describe(c *addition, r ref) {
	c.ref, c.rec = r, l.arena.at(r)
	c.size = c.rec.slotSize()
}

func (l *changeLog) leaving(r ref) (d dead) {
	if r != 0 {
		d = dead{ref: r, size: uint32(record(l.arena.at(r)).slotSize())}
	}
	return d
}

// receive logs a record that came from elsewhere and whose version is set. gone
// is the record that left the table or never got there, 0 for none.
func (l *changeLog) receive(r ref, v kv.Version, seq uint64, gone ref) {
	c := addition{gone: l.leaving(gone)}
	l.describe(&c, r)
	l.mu.Lock()
	if l.greatest.Less(v) {
		l.greatest = v
	}
	freed := l.appendLocked(&c, seq)
	switch {
	case gone != r:
		l.journalLocked(c.rec, v.Instance, seq)
	case l.journal != nil && seq != 0: // it lost: what superseded it is in the journal
		l.journal.Note(v.Instance, seq, v.HLC)
	}
	l.mu.Unlock()
	l.free(&freed)
}

func (l *changeLog) journalLocked(rec record, instance, seq uint64) journal.Ticket {
	if l.journal == nil {
		return 0
	}
	return l.journal.Append(&kv.Change{Origin: instance, Seq: seq, Entry: rec.entry(instance)})
}

// freedSlots are slots that an append released: usually one or two, more when a
// large change pushed many small ones out.
type freedSlots struct {
	few  [4]dead
	n    int // of few
	more []dead
}

func (f *freedSlots) add(d dead) {
	if f.n < len(f.few) {
		f.few[f.n] = d
		f.n++
		return
	}
	f.more = append(f.more, d)
}

func (l *changeLog) free(f *freedSlots) {
	for _, d := range f.few[:f.n] {
		l.arena.free(d.ref, int(d.size))
	}
	for _, d := range f.more {
		l.arena.free(d.ref, int(d.size))
	}
}

// appendLocked adds a change at the head, forgets what the limit no longer
// allows, and returns the slots that nothing refers to any more.
func (l *changeLog) appendLocked(c *addition, seq uint64) freedSlots {
	i := l.head - l.first
	if i/blockLen == uint64(len(l.blocks)) {
		l.blocks = append(l.blocks, l.newBlockLocked())
	}
	l.blocks[i/blockLen].set(i%blockLen, c.ref, c.gone.ref, seq, c.rec.instance(), c.size)
	l.head++
	l.bytes += int64(c.size)
	if c.gone.ref != 0 {
		c.gone.pos = l.head
		l.quarantine.push(c.gone)
		l.parked += int64(c.gone.size)
	}
	// No slot is smaller than minSlot, so this forgets and releases at least as
	// many bytes as came.
	effort := 2 + (c.size+int(c.gone.size))/minSlot
	l.trimLocked(effort)
	return l.reapLocked(effort)
}

// minSlot is the size of the smallest slot that a record can have.
const minSlot = headerSize

func (l *changeLog) newBlockLocked() *logBlock {
	if b := l.spare; b != nil {
		l.spare = nil
		return b
	}
	return new(logBlock)
}

// overLocked reports whether the log refers to more than its limit: by what it
// mentions, or by what it keeps in quarantine. The two are not the same: a large
// value whose change was forgotten long ago is parked when a small one replaces
// it.
func (l *changeLog) overLocked() bool { return l.bytes > l.limit || l.parked > l.limit }

// trimLocked forgets up to most changes while the log is over its limit and no
// reader needs them.
func (l *changeLog) trimLocked(most int) {
	for ; most > 0 && l.overLocked() && l.tail < l.head-1 && !l.pinnedLocked(l.tail); most-- {
		b, i := l.blocks[0], l.tail-l.first
		l.bytes -= int64(l.sizeLocked(b, i))
		if seq := b.meta[i] >> instanceBits; seq != 0 {
			origin := l.originLocked(b, i)
			l.floors[origin] = max(l.floors[origin], seq+1)
		}
		l.tail++
		if l.tail-l.first == blockLen {
			l.spare, l.blocks[0] = b, nil
			l.blocks = l.blocks[1:]
			l.first += blockLen
		}
	}
}

func (l *changeLog) sizeLocked(b *logBlock, i uint64) int {
	if b.units[i] == bigSlot {
		return record(l.arena.at(b.refs[i])).slotSize()
	}
	return int(b.units[i]) << unitShift
}

func (l *changeLog) originLocked(b *logBlock, i uint64) uint32 {
	if b.meta[i]&instanceMask == instanceMask {
		return record(l.arena.at(b.refs[i])).instance()
	}
	return uint32(b.meta[i] & instanceMask)
}

// reapLocked takes up to most slots out of quarantine that the log no longer
// mentions.
func (l *changeLog) reapLocked(most int) (f freedSlots) {
	for ; most > 0 && !l.quarantine.empty() && l.quarantine.front().pos <= l.tail; most-- {
		d := l.quarantine.pop()
		l.parked -= int64(d.size)
		if d.size <= smallRecord && l.ready.n < len(l.ready.slots) {
			poison(l.arena.at(d.ref)[:d.size])
			l.ready.slots[l.ready.n] = d
			l.ready.n++
			continue
		}
		f.add(d)
	}
	return f
}

func (l *changeLog) atLocked(pos uint64) mention {
	i := pos - l.first
	b := l.blocks[i/blockLen]
	i %= blockLen
	return mention{ref: b.refs[i], gone: b.gone[i], size: uint32(l.sizeLocked(b, i)), seq: b.meta[i] >> instanceBits}
}

func (l *changeLog) pinnedLocked(pos uint64) bool {
	for _, p := range l.pins {
		if p <= pos {
			return true
		}
	}
	return false
}

// maxInstances bounds how many instances a store learns of. A node gets a new one
// with each start, so this is some hundred years of a busy cluster, or a liar.
const maxInstances = 1 << 18

// intern returns the index of an instance, and false when there are too many.
func (l *changeLog) intern(instance uint64) (uint32, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.index[instance]; ok {
		return i, true
	}
	names := *l.names.Load()
	if len(names) == maxInstances {
		return 0, false
	}
	i := uint32(len(names))
	names = append(names, instance)
	l.names.Store(&names)
	l.floors = append(l.floors, 1)
	l.index[instance] = i
	return i, true
}

// name returns the instance with an index.
func (l *changeLog) name(i uint32) uint64 { return (*l.names.Load())[i] }

// fifo is a queue of dead records in a growing ring.
type fifo struct {
	buf         []dead
	first, size int
}

func (q *fifo) empty() bool { return q.size == 0 }
func (q *fifo) front() dead { return q.buf[q.first] }

func (q *fifo) push(d dead) {
	if q.size == len(q.buf) {
		grown := make([]dead, max(64, 2*len(q.buf)))
		n := copy(grown, q.buf[q.first:])
		copy(grown[n:], q.buf[:q.first])
		q.buf, q.first = grown, 0
	}
	q.buf[(q.first+q.size)%len(q.buf)] = d
	q.size++
}

func (q *fifo) pop() dead {
	d := q.buf[q.first]
	q.first = (q.first + 1) % len(q.buf)
	q.size--
	return d
}
