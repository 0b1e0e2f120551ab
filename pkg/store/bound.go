package store

import (
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"syscall"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// Bound keeps, where it outlives the process, up to where the clock may count, so that
// after a crash nothing is stamped twice or below what was stamped before, even if the
// machine's clock was set back.
type Bound interface {
	// Reserve makes the bound at least t, durably, before it returns nil. It may
	// block for as long as a sync takes.
	Reserve(t hlc.Timestamp) error
}

// How far ahead the bound is set, in milliseconds.
//
// Ahead of the physical clock it lies by some seconds, so that the disk is written
// once in as many. Where the clock runs ahead of the physical one, each start after a
// crash adds to that by what was reserved and not used. So there the step is small at
// first, still enough for some millions of stamps, and grows while it is used up
// quickly: by peers whose clocks are ahead, as quickly as time passes.
const (
	reserveAhead = 4000 // of the physical clock
	leastStep    = 64   // of the last stamp
	greatestStep = 4000

	// quickMillis says within which time the next reservation means that a step was
	// too small.
	quickMillis = 1000
)

// reservation keeps the clock's ceiling at what is reserved on disk, and that ahead of
// what will be stamped. Writers ask it before they take a lock, so that the disk is
// never waited for under one.
type reservation struct {
	clock  *hlc.Clock
	disk   Bound // nil: there is no ceiling
	logger *slog.Logger

	// Beyond enough the next reservation is due; beyond most, a writer waits for it
	// while another one makes it.
	enough, most atomic.Uint64

	mu      sync.Mutex // held while the disk is written: whoever waits for it waits for that
	step    int64      // milliseconds
	at      int64      // of the last reservation, Unix milliseconds by the physical clock
	failing bool
}

func newReservation(clock *hlc.Clock, disk Bound, logger *slog.Logger) *reservation {
	r := &reservation{clock: clock, disk: disk, logger: logger, step: leastStep}
	if disk == nil {
		r.enough.Store(math.MaxUint64)
		return r
	}
	clock.RaiseCeiling(1) // nothing is reserved yet
	return r
}

// cover makes sure that n stamps can be issued now, where millis is the physical clock.
// With an error, a *kv.ReadOnlyError, they cannot.
func (r *reservation) cover(millis int64, n int) error {
	end := max(hlc.At(millis), r.clock.Last()) + hlc.Timestamp(n)
	if uint64(end) <= r.enough.Load() {
		return nil
	}
	return r.extend(millis, end)
}

// extend reserves what lies ahead of end, unless another writer does so and there is
// enough for the meantime.
func (r *reservation) extend(millis int64, end hlc.Timestamp) error {
	if !r.mu.TryLock() {
		if uint64(end) <= r.most.Load() {
			return nil
		}
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	if uint64(end) <= r.enough.Load() {
		return nil
	}
	bound := r.planLocked(millis, end)
	if err := r.disk.Reserve(bound); err != nil {
		return r.failedLocked(end, err)
	}
	r.failing = false
	r.clock.RaiseCeiling(bound)
	spare := (bound - end) / 4
	r.enough.Store(uint64(bound - spare))
	r.most.Store(uint64(bound - spare/2))
	return nil
}

// planLocked says what to reserve when all up to end may be used.
func (r *reservation) planLocked(millis int64, end hlc.Timestamp) hlc.Timestamp {
	lasted := millis - r.at
	r.at = millis
	if least := later(end, leastStep); least <= hlc.At(millis+reserveAhead) {
		r.step = leastStep
		return hlc.At(millis + reserveAhead)
	}
	if 0 <= lasted && lasted < quickMillis {
		r.step = min(2*r.step, greatestStep)
	}
	return later(end, r.step)
}

// later returns t plus some milliseconds.
func later(t hlc.Timestamp, millis int64) hlc.Timestamp { return t + hlc.At(millis) }

// failedLocked says what a failed reservation means to a writer, for whom what was
// reserved before may suffice. The first failure of a row is logged.
func (r *reservation) failedLocked(end hlc.Timestamp, err error) error {
	if !r.failing {
		r.failing = true
		r.logger.Error("the clock's bound cannot be written to disk; soon nothing can be stamped", "err", err)
	}
	switch {
	case uint64(end) <= r.most.Load():
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &kv.ReadOnlyError{Why: "disk full"}
	default:
		return &kv.ReadOnlyError{Why: "disk failed"}
	}
}

// observe takes note of the timestamp of an entry that came from elsewhere, and
// reports false when that lies too far in the future. Where this node has written
// before, it makes room for the stamps that will lie above t, so that no writer whom
// the clock passes meanwhile is refused. When it cannot, the next writer hears of it.
func (s *Store) observe(t hlc.Timestamp) bool {
	if uint64(t) > s.reserved.enough.Load() && s.clock.Ceiling() > 1 {
		if _, ok := s.clock.Acceptable(t); ok {
			_ = s.reserved.extend(s.clock.Physical(), t)
		}
	}
	_, ok := s.clock.Observe(t)
	return ok
}
