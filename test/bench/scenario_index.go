package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/store"
)

// Bounds of the index.
const (
	indexBytes    = 32                     // a key
	indexBuild    = 300 * time.Millisecond // for a million keys
	indexRoot     = 20 * time.Microsecond  // after one write
	indexUpdate   = 800 * time.Nanosecond  // in the background, in batches of 100,000
	indexOverhead = 25 * time.Nanosecond   // that a writer pays
	indexBatch    = 100_000
	indexRuns     = 5
	indexGrace    = 3600 // epochs
)

// indexed is a replica with its index and a clock that the benchmark moves.
type indexed struct {
	*store.Store
	*store.DirtyReader
	index  *antientropy.Index
	millis int64
}

func (x *indexed) Close() {
	x.DirtyReader.Close()
	x.Store.Close()
}

// runIndex measures what the Merkle index of one node takes.
func runIndex(ctx context.Context, b *bench) error {
	x, err := newIndexed(b)
	if err != nil {
		return err
	}
	defer x.Close()
	b.printf("%d keys like user:00000042 with values of %d B, one process, no network\n", b.loadKeys, b.valueSize)
	before := heapBytes()
	build := x.build()
	perKey := float64(heapBytes()-before) / float64(b.loadKeys)
	hash := hashSorted(b)
	million := func(d time.Duration) time.Duration {
		return time.Duration(float64(d) * 1e6 / float64(b.loadKeys)).Round(time.Millisecond)
	}
	b.printf("      from a live replica, whose entries lie in the order of a hash, for a million keys: %v\n", million(build))
	root, update := x.rootAfterOneWrite(b), x.updates(b)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	overhead, err := writeOverhead(b)
	if err != nil {
		return err
	}
	return errors.Join(
		b.verdict(perKey <= indexBytes, "%.1f bytes a key, at most %d", perKey, indexBytes),
		b.verdict(million(hash) <= indexBuild, "tags and trie of sorted entries, for a million: %v, at most %v", million(hash), indexBuild),
		b.verdict(root <= indexRoot, "exact root after one write: %v, at most %v", root, indexRoot),
		b.verdict(update <= indexUpdate, "an update in the background, %d at a time, all of it: %v, at most %v a core", indexBatch, update, indexUpdate),
		b.verdict(overhead <= indexOverhead, "at 100,000 writes/s one takes %v more while an index is kept, at most %v", overhead, indexOverhead),
	)
}

func newStoreOf(b *bench, clock func() int64) (*store.Store, error) {
	s, err := store.New(store.Options{Clock: hlc.NewClock(clock, math.MaxInt32)})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for i := range b.loadKeys {
		if _, err := s.Set(indexKey(i), make([]byte, b.valueSize)); err != nil {
			s.Close()
			return nil, fmt.Errorf("load key %d: %w", i, err)
		}
	}
	return s, nil
}

func indexKey(i int) []byte { return fmt.Appendf(nil, "user:%08d", i) }

func newIndexed(b *bench) (*indexed, error) {
	x := &indexed{millis: time.Now().UnixMilli()}
	s, err := newStoreOf(b, func() int64 { return x.millis })
	if err != nil {
		return nil, err
	}
	x.Store, x.DirtyReader = s, s.NewDirtyReader()
	return x, nil
}

// heapBytes returns what is live on the heap.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// build makes the index anew and returns the least time of some runs.
func (x *indexed) build() time.Duration {
	best := time.Duration(math.MaxInt64)
	for range indexRuns {
		x.index = nil
		runtime.GC()
		start := time.Now()
		x.index = antientropy.NewIndex(x, indexGrace, 0)
		x.index.Advance(x.millis)
		best = min(best, time.Since(start))
	}
	return best
}

// hashSorted returns the least time that tags and trie of sorted entries take.
func hashSorted(b *bench) time.Duration {
	entries := make([]kv.Entry, b.loadKeys)
	for i := range entries {
		entries[i] = kv.Entry{Key: indexKey(i), Value: make([]byte, b.valueSize), Version: kv.Version{HLC: hlc.Timestamp(i + 1), Instance: 1}}
	}
	updates := make([]merkle.Update, len(entries))
	best := time.Duration(math.MaxInt64)
	for range indexRuns {
		runtime.GC()
		start := time.Now()
		for i := range entries {
			updates[i] = merkle.Update{Key: entries[i].Key, Tag: merkle.TagOf(&entries[i])}
		}
		merkle.Tree{}.Apply(updates).Root()
		best = min(best, time.Since(start))
	}
	return best
}

// rootAfterOneWrite returns the median time from a write to the exact root.
func (x *indexed) rootAfterOneWrite(b *bench) time.Duration {
	x.passEpoch()
	var took []time.Duration
	for i := range 1001 {
		x.Set(indexKey((i*7919)%b.loadKeys), []byte("one write"))
		start := time.Now()
		x.index.Now().Root()
		took = append(took, time.Since(start))
		x.passEpoch()
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// passEpoch lets an epoch end and be closed.
func (x *indexed) passEpoch() {
	x.millis += hlc.MillisPerEpoch
	x.index.Advance(x.millis)
}

// updates returns the median time of an update in a large batch: reading it from
// the log, hashing and sorting it, and closing its epoch.
func (x *indexed) updates(b *bench) time.Duration {
	var each []time.Duration
	for run := range indexRuns {
		for i := range indexBatch {
			x.Set(indexKey(((i+run)*7919)%b.loadKeys), make([]byte, b.valueSize))
		}
		start := time.Now()
		x.passEpoch()
		each = append(each, time.Since(start)/indexBatch)
	}
	slices.Sort(each)
	return each[len(each)/2]
}

// writeOverhead returns how much longer a write takes while an index is kept, at
// 100,000 writes a second: the median of interleaved runs.
func writeOverhead(b *bench) (time.Duration, error) {
	s, err := newStoreOf(b, func() int64 { return time.Now().UnixMilli() })
	if err != nil {
		return 0, err
	}
	defer s.Close()
	pacedWrites(b, s)
	var differences []time.Duration
	for range indexRuns {
		without := pacedWrites(b, s)
		stop := keepIndex(s)
		with := pacedWrites(b, s)
		stop()
		differences = append(differences, with-without)
	}
	slices.Sort(differences)
	return differences[len(differences)/2], nil
}

// pacedWrites writes in bursts, one each beat, and returns what a write took.
func pacedWrites(b *bench, s *store.Store) time.Duration {
	const beats, burst, beat = 100, 2000, 20 * time.Millisecond
	value := make([]byte, b.valueSize)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var writing time.Duration
	for i := range beats {
		<-tick.C
		start := time.Now()
		for j := range burst {
			s.Set(indexKey(((i*burst+j)*7919)%b.loadKeys), value)
		}
		writing += time.Since(start)
	}
	return writing / (beats * burst)
}

// keepIndex keeps an index of a replica as a node does, until it is stopped.
func keepIndex(s *store.Store) (stop func()) {
	x := &indexed{Store: s, DirtyReader: s.NewDirtyReader()}
	x.index = antientropy.NewIndex(x, indexGrace, 100)
	x.index.Advance(time.Now().UnixMilli())
	ctx, cancel := context.WithCancel(context.Background())
	var keeper sync.WaitGroup
	keeper.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			x.index.Advance(time.Now().UnixMilli())
			<-tick.C
		}
	})
	return func() {
		cancel()
		keeper.Wait()
		x.DirtyReader.Close()
	}
}
