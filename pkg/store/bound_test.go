package store

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/kv"
	"merklekv/pkg/volume"
	"pgregory.net/rapid"
)

// memoryBound is a bound that costs nothing.
type memoryBound struct {
	bound    atomic.Uint64
	reserved atomic.Int64          // how often
	fails    atomic.Pointer[error] // nil: it works
	gate     chan struct{}         // receives before each reservation, if not nil
}

func (b *memoryBound) Reserve(t hlc.Timestamp) error {
	if b.gate != nil {
		<-b.gate
	}
	b.reserved.Add(1)
	if err := b.fails.Load(); err != nil {
		return *err
	}
	b.bound.Store(max(b.bound.Load(), uint64(t)))
	return nil
}

// machine is a node that keeps nothing but its volume, on a disk that can lose power
// and a wall clock that can be set.
type machine struct {
	wall   int64
	mem    *vfs.MemFS
	full   bool // the disk
	volume *volume.Volume
	clock  *hlc.Clock
	store  *Store

	issued hlc.Timestamp // the greatest stamp ever
}

const (
	machineDrift = 60_000
	patience     = 10 * time.Second
)

func (m *machine) boot(t *rapid.T) {
	disk := errorfs.Wrap(m.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if m.full && op.Kind == errorfs.OpCreate {
			return syscall.ENOSPC
		}
		return nil
	}))
	var err error
	if m.volume, err = volume.Open("d", "n", volume.Options{FS: disk}); err != nil {
		t.Fatal(err)
	}
	m.clock = hlc.NewClock(func() int64 { return m.wall }, machineDrift)
	m.clock.Raise(m.volume.Bound())
	if m.store, err = New(Options{Clock: m.clock, Bound: m.volume}); err != nil {
		t.Fatal(err)
	}
}

// crash ends the process without a word; with power, the disk forgets any part of what
// was not synced.
func (m *machine) crash(t *rapid.T) {
	m.store.Close()
	cfg := vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
	cfg.UnsyncedDataPercent = rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "survives")
	m.mem = m.mem.CrashClone(cfg)
	m.boot(t)
}

func (m *machine) stop(t *rapid.T) {
	m.store.Close()
	if err := m.volume.Close(m.clock.Last()); err != nil && !m.full {
		t.Fatal(err)
	}
	m.boot(t)
}

func (m *machine) write(t *rapid.T) {
	before, _ := m.store.LastSeq()
	key := []byte(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"))
	_, ran := m.store.LastSeq()
	ahead := m.clock.Last().Millis() - m.wall
	var err error
	switch rapid.IntRange(0, 5).Draw(t, "command") {
	case 0:
		_, err = m.store.Set(key, key)
	case 1:
		_, _, err = m.store.Delete(key)
	case 2:
		_, _, err = m.store.Append(nil, key, key)
	case 3:
		_, err = m.store.MSet([][]byte{key, key, []byte("d"), key, key, nil})
	case 4:
		_, err = m.store.SetReserved([]byte("m|n"), key)
	case 5:
		_, err = m.store.Truncate()
	}
	after, last := m.store.LastSeq()
	var readOnly *kv.ReadOnlyError
	switch {
	case err != nil && (!errors.As(err, &readOnly) || after != before):
		t.Fatalf("%v, %d changes", err, after-before)
	case err != nil && ahead < machineDrift-100 && !m.full:
		t.Fatalf("%v, %d ms ahead", err, ahead)
	case after == before:
		return
	}
	m.store.ReadLog(0, 1<<30, func(c *kv.Change) bool {
		if c.Seq <= before || c.Origin != m.store.Instance() {
			return true
		}
		if stamp := c.Entry.Version.HLC; stamp <= m.issued {
			t.Fatalf("%v was issued after %v; before that the last was %v", stamp, m.issued, ran)
		}
		m.issued = c.Entry.Version.HLC
		return true
	})
	if m.issued != last {
		t.Fatalf("the log ends with %v, LastSeq says %v", m.issued, last)
	}
	if info, err := volume.Inspect(m.mem.CrashClone(vfs.CrashCloneCfg{}), "d"); err != nil || info.Bound < m.issued || info.Bound < m.clock.Ceiling() {
		t.Fatalf("stamped %v under the ceiling %v, with %v on the disk, %v", m.issued, m.clock.Ceiling(), info.Bound, err)
	}
}

// Whenever the power fails and however the wall clock jumps, no stamp is issued twice
// or below one that was issued before, though every entry is lost; and writes are
// refused only while the disk is full or the clock too far ahead.
func TestNoStampIsIssuedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{wall: testStart, mem: vfs.NewCrashableMem()}
		m.boot(t)
		defer func() { m.store.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"write":  m.write,
			"write2": m.write,
			"pass":   func(t *rapid.T) { m.wall += rapid.Int64Range(0, 5000).Draw(t, "ms") },
			"jump":   func(t *rapid.T) { m.wall += rapid.Int64Range(-100_000, 30_000).Draw(t, "ms") },
			"read":   func(*rapid.T) { m.clock.Read() },
			"full":   func(t *rapid.T) { m.full = rapid.Bool().Draw(t, "full") },
			"crash":  m.crash,
			"stop":   m.stop,
			"apply": func(t *rapid.T) {
				ahead := rapid.Int64Range(-1000, 70_000).Draw(t, "ahead")
				reach := hlc.At(m.wall+ahead) <= m.clock.Last() || ahead <= machineDrift
				if got := m.store.Apply(remote(7, 0, m.wall+ahead, "r", "v")); (got != kv.Deferred) != reach {
					t.Fatalf("%d ms ahead: %v", ahead, got)
				}
			},
		})
	})
}

// advance lets time pass in steps of a millisecond, in each of which do is called.
func advance(clock *manualTime, millis int64, do func()) {
	for range millis {
		clock.set(clock.now() + 1)
		do()
	}
}

func TestTheBoundIsWrittenRarely(t *testing.T) {
	const seconds = 20
	for name, tc := range map[string]struct {
		ahead int64 // by how much a peer's clock is, which writes once a millisecond; 0: no peer
		most  int64
	}{
		"alone":             {0, seconds/3 + 1},
		"a peer":            {1, seconds/3 + 2},
		"a peer a bit fast": {3950, seconds + 10},
		"a fast peer":       {30_000, seconds + 10},
	} {
		t.Run(name, func(t *testing.T) {
			b := &memoryBound{}
			s, clock := newStore(t, Options{Bound: b})
			advance(clock, seconds*1000, func() {
				mustSet(t, s, "k", "v")
				if tc.ahead > 0 {
					s.Apply(remote(7, 0, clock.now()+tc.ahead, "r", "v"))
				}
			})
			if got := b.reserved.Load(); got > tc.most {
				t.Errorf("%d reservations in %d s, want at most %d", got, seconds, tc.most)
			}
		})
	}
}

func TestManyStampsNeedFewReservations(t *testing.T) {
	b := &memoryBound{}
	s, clock := newStore(t, Options{Bound: b})
	s.clock.Raise(hlc.At(testStart + 30_000)) // as after a crash with the clock set back
	advance(clock, 4000, func() {
		mustSet(t, s, "k", "v")
		if _, err := s.clock.Issue(clock.now(), 1000); err != nil {
			t.Fatal(err)
		}
	})
	if got := b.reserved.Load(); got > 8 {
		t.Errorf("%d reservations for 4 million stamps in 4 s", got)
	}
}

func TestWhatOthersStampIsReservedWhereThisNodeWrites(t *testing.T) {
	b := &memoryBound{}
	s, clock := newStore(t, Options{Bound: b})
	apply := func(ahead int64) hlc.Timestamp {
		s.Apply(remote(7, 0, clock.now()+ahead, "r", "v"))
		return hlc.At(clock.now() + ahead)
	}
	apply(5000)
	if got := b.reserved.Load(); got != 0 {
		t.Errorf("%d reservations of a node that has stamped nothing", got)
	}
	mustSet(t, s, "k", "v")
	if to := apply(20_000); b.bound.Load() <= uint64(to) {
		t.Error("no room above what was observed")
	}
	before := b.bound.Load()
	if to := apply(testDrift + 1); b.bound.Load() != before {
		t.Errorf("%v, which was deferred, moved the bound from %v", to, before)
	}
}

// A node that crashes again and again does not run ahead of its wall clock by more
// than what is reserved once.
func TestCrashLoopDoesNotRunAway(t *testing.T) {
	b := &memoryBound{}
	clock := &manualTime{millis: testStart}
	for range 1000 {
		c := hlc.NewClock(clock.now, testDrift)
		c.Raise(hlc.Timestamp(b.bound.Load()))
		s, _ := newStore(t, Options{Clock: c, Bound: b})
		mustSet(t, s, "k", "v")
		clock.set(clock.now() + 100)
		if ahead := c.Last().Millis() - clock.now(); ahead > reserveAhead {
			t.Fatalf("%d ms ahead", ahead)
		}
	}
}

func TestDiskThatTakesNoBound(t *testing.T) {
	for failure, want := range map[error]string{
		&vfsError{syscall.ENOSPC}: "disk full",
		&vfsError{syscall.EDQUOT}: "disk full",
		io.ErrUnexpectedEOF:       "disk failed",
	} {
		b := &memoryBound{}
		s, clock := newStore(t, Options{Bound: b})
		mustSet(t, s, "k", "v")
		b.fails.Store(&failure)
		clock.set(clock.now() + 3200)
		mustSet(t, s, "k", "there is room still")
		clock.set(clock.now() + 400)
		_, err := s.Set([]byte("k"), []byte("w"))
		var readOnly *kv.ReadOnlyError
		if !errors.As(err, &readOnly) || readOnly.Why != want {
			t.Errorf("%v: %v, want %q", failure, err, want)
		}
		if got := s.Apply(remote(7, 0, clock.now()+5000, "r", "v")); got != kv.Applied {
			t.Errorf("%v: a replicated entry was %v", failure, got)
		}
		if get(s, "k") != "there is room still" || get(s, "r") != "v" {
			t.Errorf("%v: reads %q, %q", failure, get(s, "k"), get(s, "r"))
		}
		b.fails.Store(nil)
		mustSet(t, s, "k", "w")
	}
}

// vfsError is an error as a file system returns it.
type vfsError struct{ errno syscall.Errno }

func (e *vfsError) Error() string { return "write clock: " + e.errno.Error() }
func (e *vfsError) Unwrap() error { return e.errno }

// While one writer waits for the disk the others go on, as far as what was reserved
// before reaches.
func TestWritersDoNotWaitForTheReservation(t *testing.T) {
	b := &memoryBound{gate: make(chan struct{}, 1)}
	s, clock := newStore(t, Options{Bound: b})
	b.gate <- struct{}{}
	mustSet(t, s, "k", "v")
	clock.set(clock.now() + 3100)
	var waiting sync.WaitGroup
	set := func(key string) {
		waiting.Go(func() {
			if _, err := s.Set([]byte(key), nil); err != nil {
				t.Error(err)
			}
		})
	}
	set("first")
	poll.Until(t, patience, func() bool { return extending() == 1 })
	mustSet(t, s, "second", "") // would hang
	clock.set(clock.now() + 2000)
	set("third")
	poll.Until(t, patience, func() bool { return extending() == 2 }, "third waits")
	if s.Exists([]byte("first")) || !s.Exists([]byte("second")) || s.Exists([]byte("third")) {
		t.Error("a write was stamped above what is reserved, or one below it waited")
	}
	close(b.gate)
	waiting.Wait()
	if !s.Exists([]byte("first")) || !s.Exists([]byte("third")) {
		t.Error("a write is lost")
	}
	if got := b.reserved.Load(); got != 2 {
		t.Errorf("%d reservations, want 2: what the first has reserved is enough for the third", got)
	}
}

// extending returns how many goroutines reserve, or wait for one that does.
func extending() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*reservation).extend(")
}

// A writer who was held up for longer than what is reserved is refused and can try
// again; nothing has changed.
func TestStampAboveTheBoundIsRefused(t *testing.T) {
	b := &memoryBound{}
	s, clock := newStore(t, Options{Bound: b})
	mustSet(t, s, "k", "v")
	before, used := s.clock.Last(), s.MemoryUsed()
	millis := clock.now()
	clock.set(millis + 60_000)
	s.clock.Read() // a reader's look brings the clock above the bound

	key, value := []byte("k"), []byte(strings.Repeat("w", 2*smallRecord))
	sh, hash := s.locate(key)
	sh.mu.Lock()
	_, small := s.setLocked(sh, hash, &kv.Entry{Key: key, Value: []byte("w")}, millis)
	_, large := s.setLocked(sh, hash, &kv.Entry{Key: key, Value: value}, millis)
	sh.mu.Unlock()
	var fresh [numShards]int
	fresh[s.shardNumber(key)] = 1
	s.lockShards(&fresh)
	_, several := s.msetLocked([][]byte{key, value, key, value}, &fresh, millis)
	s.unlockShards(&fresh)
	for what, err := range map[string]error{"small": small, "large": large, "several": several} {
		var readOnly *kv.ReadOnlyError
		if !errors.As(err, &readOnly) || !strings.Contains(readOnly.Why, "try again") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, last := s.LastSeq(); last > before || get(s, "k") != "v" || s.MemoryUsed() != used {
		t.Errorf("changed: last %v, k = %q, %d bytes used, were %d", last, get(s, "k"), s.MemoryUsed(), used)
	}
	mustSet(t, s, "k", "w")
}

func TestWritersTogetherStayBelowTheBound(t *testing.T) {
	b := &memoryBound{}
	s, clock := newStore(t, Options{Bound: b})
	s.clock.SetMaxDrift(math.MaxInt32) // a writer may be held up while seconds pass
	var writers sync.WaitGroup
	for w := range 4 {
		key := []byte{'a' + byte(w)}
		writers.Go(func() {
			for i := range 500 {
				if w == 0 {
					clock.set(clock.now() + 700)
				}
				if _, err := s.Set(key, key); err != nil {
					t.Error(err)
				}
				if _, last := s.LastSeq(); uint64(last) > b.bound.Load() {
					t.Errorf("stamped %v above the bound", last)
				}
				if w == 1 {
					s.Apply(remote(7, uint64(i+1), clock.now()+int64(i), "r", "v"))
				}
			}
		})
	}
	writers.Wait()
}
