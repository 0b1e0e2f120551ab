package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// loading is a journal while it is read, once, at the start. Three goroutines share
// the work, and it tells how far they are:
//
//	journal -> scan -> replica -> index
type loading struct {
	*disk.Journal
	ctx   context.Context // ends the loading
	log   *slog.Logger
	index *antientropy.Loaded
	begun time.Time
	total int64 // estimate, entries
	done  atomic.Int64
}

var (
	_ journal.Journal     = (*loading)(nil)
	_ journal.BatchLoader = (*loading)(nil)
)

func newLoading(ctx context.Context, j *disk.Journal, log *slog.Logger) *loading {
	l := &loading{Journal: j, ctx: ctx, log: log, index: antientropy.NewLoaded(), begun: time.Now()}
	l.total, _ = j.Size()
	return l
}

const (
	loadTold     = 2 * time.Second        // between two lines of log
	minLoadRated = 100 * time.Millisecond // before it, no rate is told
)

// Expected is part of journal.BatchLoader.
func (l *loading) Expected() int64 { return l.total }

// LoadBatches is part of journal.BatchLoader.
func (l *loading) LoadBatches(fn func([]kv.Entry) error) error {
	g, ctx := errgroup.WithContext(l.ctx)
	scanned, held := make(chan *loadBatch, loadAhead), make(chan *loadBatch, loadAhead)
	spare := make(chan *loadBatch, 3*loadAhead)
	g.Go(func() error {
		defer close(scanned)
		return l.scan(ctx, spare, scanned)
	})
	g.Go(func() error {
		defer close(held)
		return l.fill(ctx, fn, scanned, held)
	})
	g.Go(func() error {
		l.gather(held, spare)
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	l.log.Info("journal loaded", "entries", l.done.Load(), "took", time.Since(l.begun).Round(time.Millisecond).String())
	return nil
}

// scan reads the journal, batch by batch.
func (l *loading) scan(ctx context.Context, spare <-chan *loadBatch, scanned chan<- *loadBatch) error {
	b := next(spare)
	err := l.Journal.Load(func(e *kv.Entry) error {
		if b.isFull() {
			if err := send(ctx, scanned, b); err != nil {
				return err
			}
			b = next(spare)
		}
		b.add(e)
		return nil
	})
	if err != nil {
		return err
	}
	return send(ctx, scanned, b)
}

// fill hands what was scanned to the replica.
func (l *loading) fill(ctx context.Context, fn func([]kv.Entry) error, scanned <-chan *loadBatch, held chan<- *loadBatch) error {
	told := l.begun
	for b := range scanned {
		if err := fn(b.entries); err != nil {
			return err
		}
		l.done.Add(int64(len(b.entries)))
		if now := time.Now(); now.Sub(told) >= loadTold {
			told = now
			l.log.Info("loading the journal", "progress", l.progress(now))
		}
		if err := send(ctx, held, b); err != nil {
			return err
		}
	}
	return nil
}

// gather hands what the replica has to the index.
func (l *loading) gather(held <-chan *loadBatch, spare chan<- *loadBatch) {
	for b := range held {
		for i := range b.entries {
			l.index.Add(&b.entries[i])
		}
		b.reset()
		select {
		case spare <- b:
		default:
		}
	}
}

// progress says how far the loading is, for a person.
func (l *loading) progress(now time.Time) string {
	done, elapsed := l.done.Load(), now.Sub(l.begun)
	text := fmt.Sprintf("%d of about %d entries", done, max(l.total, done))
	if elapsed < minLoadRated || done == 0 {
		return text
	}
	rate := float64(done) / elapsed.Seconds()
	left := time.Duration(float64(max(0, l.total-done)) / rate * float64(time.Second))
	return fmt.Sprintf("%s, %.0f a second, about %v left", text, rate, left.Round(100*time.Millisecond))
}

// loadBatch is a number of entries with memory of their own.
type loadBatch struct {
	entries []kv.Entry
	slab    []byte
}

const (
	loadAhead   = 4         // batches between two stages
	loadEntries = 1 << 11   // in a batch
	loadBytes   = 256 << 10 // of names and values in a batch, if it has several entries
)

func (b *loadBatch) isFull() bool {
	return len(b.entries) == loadEntries || len(b.slab) >= loadBytes
}

// add copies an entry. What was added before stays where it is, in the old slab when
// that grows.
func (b *loadBatch) add(e *kv.Entry) {
	start := len(b.slab)
	b.slab = append(append(append(b.slab, e.Key...), e.Facet...), e.Value...)
	own := b.slab[start:]
	k, f := len(e.Key), len(e.Key)+len(e.Facet)
	c := *e
	c.Key, c.Facet, c.Value = own[:k:k], own[k:f:f], own[f:]
	b.entries = append(b.entries, c)
}

// reset empties a batch. The memory of large values is given back.
func (b *loadBatch) reset() {
	b.entries, b.slab = b.entries[:0], b.slab[:0]
	if cap(b.slab) > 4*loadBytes {
		b.slab = nil
	}
}

// next returns an empty batch.
func next(spare <-chan *loadBatch) *loadBatch {
	select {
	case b := <-spare:
		return b
	default:
		return &loadBatch{entries: make([]kv.Entry, 0, loadEntries), slab: make([]byte, 0, loadBytes+loadBytes/4)}
	}
}

func send(ctx context.Context, to chan<- *loadBatch, b *loadBatch) error {
	select {
	case to <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
