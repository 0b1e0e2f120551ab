package antientropy

import (
	"math"
	"slices"
	"sync/atomic"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// Source is the replica as the index sees it. Its log has every change that was
// made or received, those that lost the merge included.
type Source interface {
	// Read passes up to max changes that were not read yet to fn, in the log's
	// order, and returns how many those were. A change is valid during the call only.
	Read(max int, fn func(*kv.Logged)) int
	// Pos returns the position in the log after the last change that was read.
	Pos() uint64
	// LogHead returns the position after the newest change.
	LogHead() uint64
	// Seal makes all stamps from now on greater than those of an epoch, and returns
	// the position in the log before which all of this node's changes of it lie.
	Seal(epoch int64) uint64
	// Dump calls fn for every entry held, in any order, until fn returns false.
	Dump(fn func(*kv.Entry) bool)
}

// keptRoots is how many closed epochs are remembered.
const keptRoots = 4

// Index keeps the set of entries as of each of the last closed epochs, as hash
// tries. S_e is a function of the set of entries received with an epoch of at
// most e, whatever the order in which they came; see DESIGN.md.
//
// It is a state machine: time is passed in, and it is for one goroutine.
type Index struct {
	src   Source
	grace int64 // of tombstones, in epochs
	tail  int64 // milliseconds after an epoch's end until it is closed

	kept   []keptRoot          // ascending; never empty once built
	window map[int64]*epochLog // of the epochs after kept[0]
	spare  *epochLog           // memory for another one, nil if there is none
	older  *epochLog           // fresh only: late changes of epochs up to kept[0]
	late   bool                // something came for an epoch that is closed
	due    *dueList
	mark   kv.Version   // truncation
	millis int64        // the last instant passed in, Unix milliseconds
	sealed atomic.Int64 // nothing of this node will be stamped in it, or before
	from   int64        // roots of earlier epochs are not what their vectors say
	stale  bool         // only a build helps
	built  bool
	stride int64 // only epochs divisible by it are closed
}

type keptRoot struct {
	epoch int64
	tree  merkle.Tree
}

// EpochRoot is what is told of one closed epoch.
type EpochRoot struct {
	Epoch int64
	Root  merkle.Hash
	Count int
	// Told says whether peers may compare it: it holds exactly what was received in
	// sequence.
	Told bool
}

// never is before all epochs.
const never = math.MinInt64 / 4

// NewIndex returns an index over a source. grace is for how long tombstones
// belong to the set, in epochs; tail is how long after its end an epoch is
// closed, in milliseconds, so that what is under way still arrives in time. It
// is empty until Build.
func NewIndex(src Source, grace, tail int64) *Index {
	x := &Index{
		src: src, grace: grace, tail: tail, stride: 1, from: never,
		window: make(map[int64]*epochLog), older: &epochLog{epoch: never}, due: newDueList(),
	}
	x.sealed.Store(never)
	return x
}

// Advance takes in what the log holds and closes the newest epoch that has ended
// at an instant, in Unix milliseconds. It reports whether an epoch was closed.
func (x *Index) Advance(millis int64) bool {
	x.millis = millis
	if !x.built || x.stale {
		x.Build(millis)
	}
	e := epochAt(millis-x.tail) - 1
	if e <= x.Sealed() {
		x.Drain()
		return false
	}
	x.sealed.Store(e) // before what is late for it begins to come
	x.drainTo(x.src.Seal(e))
	if x.stale {
		return x.Advance(millis)
	}
	closing := e - floorMod(e, x.stride)
	if closing <= x.newest().epoch {
		return false
	}
	x.close(closing)
	return true
}

// epochAt returns the epoch of an instant in Unix milliseconds.
func epochAt(millis int64) int64 {
	e := millis / hlc.MillisPerEpoch
	if millis%hlc.MillisPerEpoch < 0 {
		e--
	}
	return e
}

func floorMod(a, n int64) int64 { return (a%n + n) % n }

// SetStride makes only epochs divisible by n be closed, at least 1: fewer sets
// cost less, when writes come faster than they can be hashed.
func (x *Index) SetStride(n int64) { x.stride = n }

// Drain takes in all that the log holds, so that the kept sets hold all that was
// received of their epochs.
func (x *Index) Drain() {
	if !x.built {
		return
	}
	x.drainTo(x.src.LogHead())
	if x.stale {
		x.Build(x.millis)
	}
}

// readAtOnce is how many changes are taken from the log at a time.
const readAtOnce = 4096

func (x *Index) drainTo(pos uint64) {
	for x.src.Pos() < pos && x.src.Read(readAtOnce, x.take) > 0 {
	}
	if x.late {
		x.settleLate()
	}
}

// take sorts a change into the log of its epoch.
func (x *Index) take(c *kv.Logged) {
	e := &c.Entry
	epoch := e.Version.Epoch()
	if c.Seq == 0 {
		x.from = max(x.from, epoch)
	}
	if e.IsMark() && x.mark.Less(e.Version) {
		x.stale, x.mark = true, greater(x.mark, e.Version) // all that is older left the set at once
	}
	newest := x.newest().epoch
	x.late = x.late || epoch <= newest
	if !x.logOf(epoch).add(c, merkle.TagOf(e)) {
		x.stale = true
	}
}

// logOf returns the log that takes the changes of an epoch.
func (x *Index) logOf(epoch int64) *epochLog {
	if epoch <= x.kept[0].epoch {
		return x.older
	}
	after, upTo := epoch-1, epoch
	for i := len(x.kept) - 1; i > 0 && epoch <= x.kept[i].epoch; i-- {
		after, upTo = x.kept[i-1].epoch, x.kept[i].epoch
	}
	l := x.window[upTo]
	if l == nil {
		l, x.spare = x.spare, nil
		if l == nil {
			l = new(epochLog)
		}
		l.reset(after, upTo)
		x.window[upTo] = l
	}
	return l
}

func (x *Index) newest() *keptRoot { return &x.kept[len(x.kept)-1] }

// logs returns the window's logs by ascending epoch.
func (x *Index) logs() []*epochLog {
	all := make([]*epochLog, 0, len(x.window))
	for _, l := range x.window {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *epochLog) int {
		if a.epoch < b.epoch {
			return -1
		}
		return 1
	})
	return all
}

// close makes the set of an epoch out of the newest one and what came since.
func (x *Index) close(e int64) {
	last := x.newest()
	tree := last.tree.Apply(x.updates(last, e, true))
	x.joinLogs(last.epoch, e)
	x.kept = append(x.kept, keptRoot{e, tree})
	if len(x.kept) > keptRoots {
		x.forgetOldest()
	}
	x.due.drop(e)
	x.due.sweep(tree)
}

// joinLogs makes one log of those between two closed epochs: which of them a
// version belongs to makes no difference any more.
func (x *Index) joinLogs(after, upTo int64) {
	var parts []*epochLog
	for _, l := range x.logs() {
		if l.epoch > after && l.epoch <= upTo {
			parts = append(parts, l)
			delete(x.window, l.epoch)
		}
	}
	if len(parts) == 0 {
		return
	}
	all := parts[0]
	all.settle()
	all.after, all.epoch = after, upTo
	if len(parts) > 1 {
		all = &epochLog{after: after, epoch: upTo}
		for _, l := range parts {
			l.settle()
			all.absorb(l)
		}
		all.settle()
	}
	all.fresh = nil // few more will come
	x.window[upTo] = all
}

// updates returns what leads from a kept set, the newest, to that of a later
// epoch. keep has what it will bring later noted.
func (x *Index) updates(last *keptRoot, e int64, keep bool) []merkle.Update {
	w := x.winners(last.epoch, e)
	updates := make([]merkle.Update, 0, w.len())
	w.each(func(l *epochLog, r *rec) {
		entry := l.entry(r)
		u := merkle.Update{Key: entry.Key, Facet: entry.Facet, Tag: r.tag, Remove: x.hidden(&entry, e)}
		updates = append(updates, u)
		if keep && !u.Remove {
			x.noteDue(&entry, r.tag, e)
		}
	})
	gone := x.due.between(last.epoch, e, last.tree)
	return mergeUpdates(updates, gone)
}

// noteDue notes when an entry that is in the set at e will leave it.
func (x *Index) noteDue(entry *kv.Entry, tag merkle.Tag, e int64) {
	if at, ever := dueEpoch(entry, x.grace); ever && at > e {
		x.due.add(at, entry, tag)
	}
}

// hidden reports whether the set at e does not show an entry that wins there.
func (x *Index) hidden(entry *kv.Entry, e int64) bool {
	var in [1]bool
	return !kv.AppendCut(in[:0], []kv.Entry{*entry}, x.mark, x.grace, e)[0]
}

// mergeUpdates adds removals, in no order, to updates, which are sorted and take
// precedence.
func mergeUpdates(updates, removals []merkle.Update) []merkle.Update {
	if len(removals) == 0 {
		return updates
	}
	compare := func(a, b merkle.Update) int { return merkle.CompareNames(a.Key, a.Facet, b.Key, b.Facet) }
	all := append(updates, removals...)
	slices.SortStableFunc(all, compare)
	return slices.CompactFunc(all, func(a, b merkle.Update) bool { return compare(a, b) == 0 })
}

// forgetOldest drops the oldest set. What its successor's epoch held becomes what
// later epochs' records replaced.
func (x *Index) forgetOldest() {
	x.kept = slices.Delete(x.kept, 0, 1)
	logs := x.logs()
	for i, l := range logs {
		l.settle()
		if l.epoch > x.kept[0].epoch {
			continue
		}
		for _, later := range logs[i+1:] {
			later.settle()
			later.inherit(l)
		}
		delete(x.window, l.epoch)
		x.spare = nil
		if newest := x.window[x.newest().epoch]; newest != nil && 4*len(newest.recs) >= len(l.recs) {
			x.spare = l // as much is written as before
		}
	}
}

// Recent returns how many changes of the last epochs are remembered.
func (x *Index) Recent() int {
	n := len(x.older.fresh)
	for _, l := range x.window {
		n += len(l.recs) + len(l.fresh)
	}
	return n
}

// Sealed returns the newest epoch that has ended here: nothing of this node will
// be stamped in it any more.
func (x *Index) Sealed() int64 { return x.sealed.Load() }

// Drained returns the position in the log up to which the roots hold everything.
func (x *Index) Drained() uint64 { return x.src.Pos() }

// Roots returns the closed epochs that are kept, newest first.
func (x *Index) Roots() []EpochRoot {
	roots := make([]EpochRoot, 0, len(x.kept))
	for _, k := range slices.Backward(x.kept) {
		if k.epoch > x.Sealed() || k.epoch < 0 { // a build of nothing begins before all epochs
			continue
		}
		roots = append(roots, EpochRoot{Epoch: k.epoch, Root: k.tree.Root(), Count: k.tree.Len(), Told: k.epoch >= x.from})
	}
	return roots
}

// At returns the set at a closed epoch, and false if it is not kept. It holds
// what had arrived at the last Drain or Advance.
func (x *Index) At(epoch int64) (merkle.Tree, bool) {
	for _, k := range x.kept {
		if k.epoch == epoch && epoch <= x.Sealed() && epoch >= 0 {
			return k.tree, true
		}
	}
	return merkle.Tree{}, false
}

// Now returns the set of all that has arrived, as it will be when the greatest
// epoch of any of it is closed.
func (x *Index) Now() merkle.Tree {
	x.Drain()
	if !x.built {
		return merkle.Tree{}
	}
	last, e := x.newest(), max(x.newest().epoch, x.Sealed())
	for epoch := range x.window {
		e = max(e, epoch)
	}
	return last.tree.Apply(x.updates(last, e, false))
}
