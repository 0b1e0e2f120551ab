package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"merklekv/pkg/internal/prefix"
	"merklekv/pkg/kv"
)

// A group goes to Pebble as one record, its script, and not as one for each entry:
// Pebble's memory table is a skip list, in which a random place costs a dozen
// cache misses. Later the settler sorts the entries of many groups at once, drops
// those that were overwritten, and writes the rest in the order of their keys,
// for which the skip list has no search to do; then it deletes the scripts.
//
//	group 7  w7 -> k5 k1 k9      settler, w7 to w9:
//	group 8  w8 -> k3 k1           e k1, e k3, e k5, e k9; delete w7 to w9
//	group 9  w9 -> k5
//
// What is read is the entries under their own keys, and over them those of the
// scripts, the later over the earlier. So it makes no difference how far the
// settler came before a crash: it writes what the scripts say, and they are there
// until all of it is written.
const settleBytes = 8 << 20 // of scripts, settled at a time; less on a small volume

// settleBatch is how much is written to Pebble at once, so that groups do not wait
// for long behind it.
const settleBatch = 512 << 10

// mostUnsettled is how many times what is settled at a time may wait for the
// settler. Beyond it groups wait: or a start would have to read and sort whatever the
// settler is behind, in memory.
const mostUnsettled = 8

// awaitSettler returns when the settler is not too far behind, or does not work any
// more.
func (j *Journal) awaitSettler() {
	for j.backlog.Load() > int64(mostUnsettled*j.settleAt) && !j.unsettling.Load() {
		j.met.stalls.Inc()
		select {
		case <-j.relief:
		case <-j.broken:
			return
		case <-j.stop: // what is left is settled by Close
			return
		}
	}
}

// relieve tells the committer that the settler has got on, or has given up.
func (j *Journal) relieve() {
	select {
	case j.relief <- struct{}{}:
	default:
	}
}

// noteUnsettled tells the settler when there is enough to do.
func (j *Journal) noteUnsettled(n int) {
	j.backlog.Add(int64(n))
	if j.unsettled += n; j.unsettled < j.settleAt {
		return
	}
	j.unsettled = 0
	select {
	case j.ripe <- struct{}{}:
	default:
	}
}

// settleAll settles until the journal is closed or fails.
func (j *Journal) settleAll() {
	j.settleRipe(1) // what a process that died has left: in tables, scripts would be lost whole by one bad block
	for {
		select {
		case <-j.stop:
			return
		case <-j.broken:
			return
		case <-j.ripe:
			j.settleRipe(j.settleAt)
		}
	}
}

// settleRipe settles until fewer bytes of scripts than least are left.
func (j *Journal) settleRipe(least int) {
	for more := true; more; {
		err := j.unlessFailed(func() (err error) {
			more, err = j.settle(least)
			return err
		})
		if err != nil { // what the scripts say stays there, and is read
			j.log.Error("changes stay in the log", "err", err)
			j.unsettling.Store(true)
			j.relieve()
			return
		}
		j.relieve()
	}
}

// settleRest settles all that is left, if there is room for it: tables in which
// every entry has its own key lose the least when a block of them is damaged.
func (j *Journal) settleRest() {
	// For the log, the table, and an entry of the greatest size.
	room := 2*uint64(j.settleAt) + 2*kv.MaxValueLen
	usage, err := j.seals.GetDiskUsage(j.dir)
	if err == nil && usage.AvailBytes < room {
		return
	}
	j.settleRipe(1)
}

// settle settles the oldest scripts, if they have so many bytes, and reports whether
// there may be as many again.
func (j *Journal) settle(least int) (more bool, err error) {
	s := &j.scripts
	s.before = j.found
	if err := s.gather(j.db, j.settled+1, j.settleAt); err != nil || len(s.slab) < least {
		return false, err
	}
	s.sort()
	if err := s.write(j.db); err != nil {
		return false, err
	}
	j.settled = s.last
	j.backlog.Add(-int64(s.fresh))
	return true, nil
}

// write writes the entries under their own keys and deletes the scripts.
func (s *scripts) write(db *pebble.DB) error {
	batch := db.NewBatch()
	for _, l := range s.lines {
		name, content, _, _ := nextLine(s.slab[l.at:])
		if err := batch.Set(name, content, nil); err != nil {
			return err
		}
		if batch.Len() < settleBatch {
			continue
		}
		if err := db.Apply(batch, pebble.NoSync); err != nil {
			return err
		}
		batch.Reset()
	}
	if err := batch.DeleteRange(scriptKey(0), scriptKey(s.last+1), nil); err != nil {
		return err
	}
	if err := db.Apply(batch, pebble.NoSync); err != nil {
		return err
	}
	return batch.Close()
}

// scripts are the entries of some groups.
type scripts struct {
	slab  []byte
	lines []line
	last  uint64 // number of the last group

	before uint64 // groups up to it are older than this start
	fresh  int    // bytes of the others
}

// line is where an entry lies.
type line struct {
	head uint64 // of its name, after what all names begin with
	at   uint64 // in the slab
}

// gather reads the scripts of groups from a number on, until they have so many
// bytes.
func (s *scripts) gather(db *pebble.DB, from uint64, enough int) error {
	s.slab, s.lines, s.last, s.fresh = s.slab[:0], s.lines[:0], 0, 0
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: scriptKey(from), UpperBound: []byte{kindScript + 1}})
	if err != nil {
		return fmt.Errorf("read journal: %w", damage(err))
	}
	for ok := it.First(); ok && len(s.slab) < enough; ok = it.Next() {
		if err := s.add(it.Key(), it.Value()); err != nil {
			return errors.Join(damage(err), it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read journal: %w", damage(err))
	}
	return nil
}

// add takes in one script.
func (s *scripts) add(key, script []byte) error {
	if len(key) != scriptKeyLen {
		return fmt.Errorf("%w: %w: script %x", ErrDamaged, errFormat, key)
	}
	s.last = be.Uint64(key[1:])
	at := len(s.slab)
	s.slab = append(s.slab, script...)
	if s.last > s.before {
		s.fresh += len(script)
	}
	for rest := s.slab[at:]; len(rest) > 0; {
		s.lines = append(s.lines, line{at: uint64(len(s.slab) - len(rest))})
		var ok bool
		if _, _, rest, ok = nextLine(rest); !ok {
			return fmt.Errorf("%w: %w: script of group %d", ErrDamaged, errFormat, s.last)
		}
	}
	return nil
}

// sort puts the entries in the order of their names and keeps the last one of each
// name.
func (s *scripts) sort() {
	if len(s.lines) == 0 {
		return
	}
	shared := s.name(s.lines[0])
	for _, l := range s.lines {
		shared = shared[:prefix.Shared(shared, s.name(l))]
	}
	for i, l := range s.lines {
		s.lines[i].head = prefix.Head(s.name(l)[len(shared):])
	}
	slices.SortFunc(s.lines, func(a, b line) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		if c := bytes.Compare(s.name(a), s.name(b)); c != 0 {
			return c
		}
		return cmp.Compare(b.at, a.at) // the last one first
	})
	s.lines = slices.CompactFunc(s.lines, func(a, b line) bool {
		return a.head == b.head && bytes.Equal(s.name(a), s.name(b))
	})
}

func (s *scripts) name(l line) []byte {
	name, _, _, _ := nextLine(s.slab[l.at:])
	return name
}

// load calls fn for all entries in the order of their names.
func load(db *pebble.DB, fn func(*kv.Entry) error) error {
	var s scripts
	if err := s.gather(db, 0, math.MaxInt); err != nil {
		return err
	}
	s.sort()
	l := loader{scripts: &s, fn: fn}
	err := scan(db, kindEntry, func(it *pebble.Iterator) error {
		over, err := l.before(it.Key())
		if err != nil || over {
			return err
		}
		return l.tell(it.Key(), it.Value())
	})
	if err != nil {
		return err
	}
	_, err = l.before(nil)
	return err
}

// loader merges scripts with entries under their own keys.
type loader struct {
	*scripts
	next    int // line
	fn      func(*kv.Entry) error
	e       kv.Entry
	scratch []byte
}

// before tells of all lines up to a name, nil: all that are left. It reports whether
// there is one of that name itself.
func (l *loader) before(name []byte) (same bool, err error) {
	for ; l.next < len(l.lines); l.next++ {
		n, content, _, _ := nextLine(l.slab[l.lines[l.next].at:])
		if name != nil && bytes.Compare(n, name) > 0 {
			return same, nil
		}
		same = name != nil && bytes.Equal(n, name)
		if err := l.tell(n, content); err != nil {
			return same, err
		}
	}
	return same, nil
}

func (l *loader) tell(name, content []byte) (err error) {
	if l.scratch, err = decodeEntry(&l.e, name, content, l.scratch); err != nil {
		return err
	}
	return l.fn(&l.e)
}
