package disk

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/vector"
)

// Journal keeps entries in Pebble.
//
//	Append, Note, Vouch -> pending group        under a short lock, no I/O
//	committer: group -> Pebble's log and table  one group at a time
//	syncer:    waits for the log, wakes those who wait for the group
//
// A group is committed at once when somebody waits for it; what nobody waits for,
// as with changes of other nodes, after some milliseconds.
type Journal struct {
	db       *pebble.DB
	dir      string
	seals    sealFS
	lazy     *lazyFS // nil with fsync = always
	fsync    Fsync
	log      *slog.Logger
	met      *metrics
	received []journal.Mark
	mark     uint64 // random number that trailers in the log bear

	durable atomic.Uint64 // greatest durable ticket
	wake    chan struct{} // capacity 1: for the committer
	flight  chan *group   // from the committer to the syncer
	stop    chan struct{} // closed by Close

	closeAfter time.Duration // when Close gives up
	broken     chan struct{} // closed when the journal fails
	working    sync.WaitGroup
	closing    sync.Once
	closed     error // of Close

	mu      sync.Mutex
	queue   []*group // not durable, in order; the last one is pending
	last    journal.Ticket
	urgent  bool // somebody waits for the pending group
	ending  bool // Close was called
	failure error
	tell    func(error) // whom a failure is told, once; nil before it is opened and after

	damaged  atomic.Pointer[DamageError] // the first one that was met
	opening  atomic.Bool
	troubles atomic.Int64 // errors of the engine's work in the background
	reading  atomic.Int32 // how many read on purpose: opening, Load

	ripe       chan struct{} // capacity 1: for the settler
	relief     chan struct{} // capacity 1: from the settler
	backlog    atomic.Int64  // bytes of scripts since the start that are not settled
	unsettling atomic.Bool   // the settler has met an error and leaves scripts as they are
	settleAt   int           // bytes of scripts
	found      uint64        // number of the last group when the journal was opened
	settled    uint64        // groups up to it are settled; of the settler alone
	scripts    scripts       // that are being settled; of the settler alone

	// Of the committer alone.
	unsettled int // bytes of scripts since the settler was last told
	vec       *vector.Vector
	number    uint64 // of the last group

	written atomic.Uint64 // number of the last group handed to the system
	synced  atomic.Uint64 // number of the last group forced to the disk
}

var _ journal.Journal = (*Journal)(nil)

const (
	lazyDelay = 10 * time.Millisecond // how long what nobody waits for is gathered
	syncEvery = time.Second           // with fsync = interval
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Open opens the journal in a directory, which it makes if it is not there, and
// locks it. Errors wrap ErrDamaged, ErrNewer, or what the system said.
func Open(dir string, o Options) (*Journal, error) {
	j, err := newJournal(dir, o)
	if err != nil {
		return nil, err
	}
	j.working.Go(j.commitAll)
	j.working.Go(j.syncAll)
	j.working.Go(j.settleAll)
	if j.fsync == Interval {
		j.working.Go(j.syncRegularly)
	}
	return j, nil
}

func newJournal(dir string, o Options) (*Journal, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if err := resumeSalvage(o.FS, dir); err != nil {
		return nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	found, err := inspect(o.FS, dir)
	if err != nil {
		return nil, err
	}
	if err := found.setLazy(o.FS, o.Fsync != Always); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	j := &Journal{
		dir: dir, fsync: o.Fsync, log: o.Logger.With("component", "journal"), mark: found.mark,
		wake: make(chan struct{}, 1), ripe: make(chan struct{}, 1), relief: make(chan struct{}, 1), flight: make(chan *group, 1), stop: make(chan struct{}), broken: make(chan struct{}), vec: vector.New(),
		settleAt: settleBytes, closeAfter: closeLimit,
	}
	if o.settleAt > 0 {
		j.settleAt = o.settleAt
	}
	below := o.FS
	if o.Fsync != Always {
		j.lazy = newLazyFS(o.FS)
		below = j.lazy
	}
	j.seals = newSealFS(below, found, j.fail)
	if j.met, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("journal metrics: %w", err)
	}
	if err := j.unlessFailed(func() error { return j.open(found.synced) }); err != nil {
		j.met.close()
		return nil, err
	}
	if err := errors.Join(j.met.watch(j), j.opened(o.Failed)); err != nil {
		j.met.close()
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	return j, nil
}

// opened has a failure told from now on, or returns it if there was one already.
func (j *Journal) opened(tell func(error)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tell = tell
	return j.failure
}

// unlessFailed calls f and returns what it returns. If the journal fails meanwhile
// it returns that instead and leaves f behind: Pebble may stand still in it for
// ever, and the process is about to end.
func (j *Journal) unlessFailed(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-j.broken:
		return j.failed()
	}
}

// open opens Pebble and reads what is known of the journal as a whole.
func (j *Journal) open(claimed uint64) (err error) {
	j.reading.Add(1)
	defer j.reading.Add(-1)
	o := fitted(options(j.seals, j.logger(), j.meetDamage), j.seals, j.dir)
	j.settleAt = min(j.settleAt, int(o.MemTableSize/2))
	j.met.listen(o.EventListener)
	o.EventListener.BackgroundError = j.meetTrouble
	j.opening.Store(true)
	defer j.opening.Store(false)
	if j.db, err = openEngine(j.dir, o); err != nil {
		return openError(j.dir, j.seals.lastOpened(), err)
	}
	if j.number, j.received, err = readHead(j.db, j.dir, claimed); err != nil {
		return errors.Join(err, j.db.Close())
	}
	j.vec.Retain(math.MaxInt64) // nobody asks for epochs here
	for _, m := range j.received {
		j.vec.Adopt(m.Origin, vector.Mark{Seq: m.Seq, HLC: m.Stamp})
	}
	j.synced.Store(j.number)
	j.found = j.number
	j.queue = []*group{newGroup(j.db)}
	return nil
}

// Append is part of journal.Journal.
func (j *Journal) Append(c *kv.Change) journal.Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := j.pendingLocked()
	if g == nil {
		return j.nextLocked(g)
	}
	g.add(&c.Entry)
	if c.Seq != 0 {
		g.note(c.Origin, c.Seq, c.Entry.Version.HLC)
	}
	return j.nextLocked(g)
}

// Note is part of journal.Journal.
func (j *Journal) Note(origin, seq uint64, stamp hlc.Timestamp) journal.Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := j.pendingLocked()
	if g != nil && seq != 0 {
		g.note(origin, seq, stamp)
	}
	return j.nextLocked(g)
}

// Vouch is part of journal.Journal.
func (j *Journal) Vouch(m journal.Mark) journal.Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := j.pendingLocked()
	if g != nil {
		g.vouch(m)
	}
	return j.nextLocked(g)
}

// pendingLocked returns the group that takes the next record, nil when the journal
// takes none any more.
func (j *Journal) pendingLocked() *group {
	if j.failure != nil || j.ending {
		return nil
	}
	g := j.queue[len(j.queue)-1]
	if g.isFull() {
		g = newGroup(j.db)
		j.queue = append(j.queue, g)
		j.pokeLocked()
	}
	return g
}

// nextLocked gives the record that was just added to g a ticket.
func (j *Journal) nextLocked(g *group) journal.Ticket {
	j.last++
	if g == nil {
		return j.last
	}
	if g.isEmpty() {
		j.pokeLocked()
	}
	g.last = j.last
	return j.last
}

func (j *Journal) pokeLocked() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Durable is part of journal.Journal.
func (j *Journal) Durable() journal.Ticket { return journal.Ticket(j.durable.Load()) }

// Wait is part of journal.Journal.
func (j *Journal) Wait(ctx context.Context, t journal.Ticket) error {
	if t <= j.Durable() {
		return nil
	}
	g, err := j.groupOf(t)
	if g == nil {
		return err
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the disk: %w", ctx.Err())
	}
}

// groupOf returns the group with a ticket and hastens it; none if the ticket is
// durable, or, with an error, never will be.
func (j *Journal) groupOf(t journal.Ticket) (*group, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t <= j.Durable() {
		return nil, nil
	}
	for i, g := range j.queue {
		if g.last < t {
			continue
		}
		if i == len(j.queue)-1 && !j.urgent {
			j.urgent = true
			j.pokeLocked()
		}
		return g, nil
	}
	if j.failure != nil {
		return nil, j.failure
	}
	return nil, journal.ErrClosed
}

// Received is part of journal.Journal.
func (j *Journal) Received() []journal.Mark { return slices.Clone(j.received) }

// Load is part of journal.Journal. Entries come in the order of their names, key
// before facet. An error of a damaged file wraps ErrDamaged: Salvage saves what can
// be read.
func (j *Journal) Load(fn func(*kv.Entry) error) error {
	j.reading.Add(1)
	defer j.reading.Add(-1)
	return load(j.db, fn)
}

// Size estimates how many entries there are, and their bytes on the disk. What
// was overwritten lately counts as well.
func (j *Journal) Size() (entries, bytes int64) { return size(j.db) }

// Checkpoint makes a copy of the journal in a directory that is not there yet.
// All that was appended before the call is in it, and it is on the disk when
// Checkpoint returns. Files are shared with the journal where the system can.
func (j *Journal) Checkpoint(dir string) error {
	j.mu.Lock()
	t := j.last
	j.mu.Unlock()
	if err := j.Wait(context.Background(), t); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := j.force(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	err := j.unlessFailed(func() error { return j.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
	if err != nil {
		return fmt.Errorf("checkpoint: %w", damage(err))
	}
	return nil
}

// force makes what was handed to the system reach the disk.
func (j *Journal) force() error {
	if j.lazy == nil {
		return nil
	}
	number := j.written.Load()
	if err := j.lazy.sync(); err != nil {
		j.fail(err)
		return j.failed()
	}
	j.synced.Store(max(j.synced.Load(), number))
	return nil
}

// Queued returns the bytes that were appended and are not durable yet. They lie in
// memory: who appends what nobody waits for has to stop when they are many.
func (j *Journal) Queued() (bytes int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, g := range j.queue {
		bytes += int64(len(g.script))
	}
	return bytes
}

// Waiting returns for how long the oldest changes have been on their way to the disk,
// 0 when none are.
func (j *Journal) Waiting() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) == 0 || j.queue[0].number == 0 {
		return 0
	}
	return time.Since(j.queue[0].begun)
}
