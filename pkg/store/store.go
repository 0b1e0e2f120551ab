// Package store is the replica: all entries of the cluster, in memory.
//
// It has two doors. Through the first, clients write: [Store.Set] and its
// siblings stamp a version, number the change in this instance's sequence and
// announce it. Through the second, [Store.Apply], come the entries of others;
// it stamps nothing and announces nothing, so that replication cannot loop.
// Which of two entries wins, and what a reader sees, is decided by package kv
// alone.
//
// Every write is O(1): no hashing of content, no tree, no network, no lock held
// across I/O. See DESIGN.md for the layout of memory and the order of locks.
package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// Options configure a Store. The zero value of each field but Clock has a
// meaning.
type Options struct {
	// Clock stamps local writes and judges remote ones. Required.
	Clock *hlc.Clock
	// Instance is the random number of this start; 0 draws one.
	Instance uint64
	// Journal makes writes durable; nil keeps them in memory only.
	Journal journal.Journal
	// Bound keeps on disk up to where the clock may count; nil keeps it nowhere, and
	// the clock has no ceiling.
	Bound Bound
	// MemoryLimit bounds the bytes that client writes may fill; 0 is no limit.
	// What peers replicate is always taken.
	MemoryLimit int64
	// RingBytes bounds the log of recent changes; 0 means 16 MiB.
	RingBytes int64
	// Logger is told of corruption; nil discards.
	Logger *slog.Logger
}

const (
	defaultRing = 16 << 20
	shardBits   = 6
	numShards   = 1 << shardBits
)

// Store holds the entries. All methods may be called by several goroutines.
//
// Order of locks: shards by rising number, then log, then arena. Nothing waits
// and nothing calls out under any of them.
type Store struct {
	seed    maphash.Seed
	clock   *hlc.Clock
	journal journal.Journal
	arena   *arena
	log     *changeLog
	logger  *slog.Logger
	changed chan struct{}

	limit    atomic.Int64
	used     atomic.Int64 // bytes of the slots of linked records, and of the tables
	ties     atomic.Int64 // equal versions with different content
	excess   atomic.Int64 // entries of others taken beyond the limit
	readOnly readOnly
	reserved *reservation

	shards [numShards]shard
}

// shard is one part of the keys. Readers share its lock.
type shard struct {
	mu         sync.RWMutex
	table      table
	mark       kv.Version // truncation mark
	keys       int64      // keys that a reader sees, expiry aside
	tombstones int64      // keys whose plain register is a tombstone
	entries    int64

	_ [64]byte // keeps neighbours' locks off this cache line
}

// New returns a store with what the journal holds; the journal stays the
// caller's to close, after the store. It fails when the journal cannot be read.
func New(o Options) (*Store, error) {
	if o.Clock == nil {
		return nil, fmt.Errorf("store needs a clock")
	}
	for o.Instance == 0 {
		o.Instance = rand.Uint64()
	}
	if o.Journal == nil {
		o.Journal = journal.Memory{}
	}
	if o.RingBytes <= 0 {
		o.RingBytes = defaultRing
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		seed: maphash.MakeSeed(), clock: o.Clock, journal: o.Journal, arena: newArena(),
		logger: o.Logger.With("component", "store"), changed: make(chan struct{}, 1),
	}
	s.log = newChangeLog(s.arena, o.Clock, o.Instance, o.RingBytes)
	s.reserved = newReservation(o.Clock, o.Bound, s.logger)
	if err := s.load(); err != nil {
		s.Close()
		return nil, err
	}
	s.limit.Store(o.MemoryLimit) // what was accepted once is loaded, whatever it takes
	return s, nil
}

// Close releases all memory. No other method may run or be called afterwards.
func (s *Store) Close() {
	for i := range s.shards {
		s.shards[i].table.release()
	}
	s.arena.close()
}

// Instance returns the number of this start, which every local version carries.
func (s *Store) Instance() uint64 { return s.log.instance }

// LastSeq returns the sequence number of the newest local change and its
// timestamp, both 0 when there is none.
func (s *Store) LastSeq() (uint64, hlc.Timestamp) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.lastSeq, s.log.lastClock
}

// Greatest returns the greatest version issued or applied, zero when the store
// never held anything.
func (s *Store) Greatest() kv.Version {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.greatest
}

// Changed returns a channel that holds a token when there were local changes
// since the token was last taken.
func (s *Store) Changed() <-chan struct{} { return s.changed }

func (s *Store) announce() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// SetReadOnly makes every client write fail with a *kv.ReadOnlyError that says
// why, until the same source calls it with "". Sources do not know of each other:
// writes are taken when none has a reason, and the one that has had one for the
// longest is told. Remote entries are applied all the same.
func (s *Store) SetReadOnly(source, why string) { s.readOnly.set(source, why) }

// SetMemoryLimit changes the limit for client writes; 0 is no limit.
func (s *Store) SetMemoryLimit(bytes int64) { s.limit.Store(bytes) }

// locate returns the shard of a key and its hash within it.
func (s *Store) locate(key []byte) (*shard, uint32) {
	h := maphash.Bytes(s.seed, key)
	return &s.shards[h>>(64-shardBits)], uint32(h)
}

// shardNumber returns the index of a key's shard.
func (s *Store) shardNumber(key []byte) int {
	return int(maphash.Bytes(s.seed, key) >> (64 - shardBits))
}

// stampError is what a client gets when the clock, asked by hlc.Clock.Issue, issues
// nothing.
func stampError(err error) error {
	var drift *hlc.DriftError
	if errors.As(err, &drift) { // the clock has run away
		d := (time.Duration(drift.Ahead) * time.Millisecond).Round(time.Second)
		return &kv.ReadOnlyError{Why: fmt.Sprintf("clock ahead by %v", d)}
	}
	return &kv.ReadOnlyError{Why: "clock has reached its bound on disk, try again"}
}
