package diskspace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Options configure a Watcher.
type Options struct {
	// FS asks for free space and holds the ballast; nil: the system's files. It must
	// not be one that calls Relieve.
	FS vfs.FS
	// Dir is a directory on the volume, which must be there; the ballast lies in it.
	Dir string
	// Changed is called by Run, first with how things stand, then whenever the
	// volume becomes full or has space again. Required.
	Changed    func(full bool)
	Logger     *slog.Logger          // nil: no log
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

// State is what the last look found.
type State struct {
	Space         // zero where the system does not tell
	Marks         // of that space
	Full     bool // nothing more is to be taken
	Reserved bool // the ballast is there
}

// Watcher looks at a volume in turn, and keeps the ballast. All methods may be
// called by several goroutines.
type Watcher struct {
	opts    Options
	log     *slog.Logger
	ballast ballast
	poke    chan struct{} // capacity 1: look now
	wanted  atomic.Bool   // the ballast is still wanted while it is written
	blind   atomic.Bool   // the last look failed

	mu    sync.Mutex
	guard Guard
	state State
}

// Open looks at the volume once, so that its state is known, and the ballast gone if
// its space is needed, before anything is written there. It fails when the volume
// cannot be looked at for another reason than that the system has no way to.
func Open(o Options) (*Watcher, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{
		opts: o, log: o.Logger.With("component", "diskspace", "dir", o.Dir), poke: make(chan struct{}, 1),
		ballast: ballast{o.FS, o.FS.PathJoin(o.Dir, ballastName)},
	}
	space, err := w.space()
	if err != nil {
		return nil, err
	}
	there, err := w.ballast.there(MarksOf(space.Total).Ballast)
	if err != nil {
		return nil, err
	}
	w.state.Reserved = there
	if w.take(space) == Remove { // what opens files here does not ask for relief
		w.release("the disk is full")
		if space, err := w.space(); err == nil {
			w.take(space)
		}
	}
	if err := w.register(o.Registerer); err != nil {
		return nil, err
	}
	return w, nil
}

// space asks the system. Where that has no answer the space is zero.
func (w *Watcher) space() (Space, error) {
	usage, err := w.opts.FS.GetDiskUsage(w.opts.Dir)
	switch {
	case errors.Is(err, vfs.ErrUnsupported), errors.Is(err, errors.ErrUnsupported):
		return Space{}, nil
	case err != nil:
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", w.opts.Dir, err)
	}
	return Space{Free: usage.AvailBytes, Total: usage.TotalBytes}, nil
}

// take has the guard judge what the volume has, and keeps that for State.
func (w *Watcher) take(s Space) Order {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.guard.Look(s, w.state.Reserved)
	w.state.Space, w.state.Full = s, d.Full
	if s.Total > 0 {
		w.state.Marks = MarksOf(s.Total)
	}
	return d.Ballast
}

// State returns what the last look found.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Relieve is for a write that found no space: it removes the ballast at once, so
// that the write may be tried again, and calls the volume full. It is what
// vfs.OnDiskFull calls; Changed is called soon after, by Run.
func (w *Watcher) Relieve() {
	w.mu.Lock()
	w.guard.Exhausted()
	w.state.Full = true
	w.mu.Unlock()
	w.release("a write found no space")
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// release removes the ballast.
func (w *Watcher) release(why string) {
	w.wanted.Store(false)
	w.mu.Lock()
	had := w.state.Reserved
	w.state.Reserved = false
	w.mu.Unlock()
	if err := w.ballast.remove(); err != nil {
		w.log.Error("the space in reserve cannot be given back", "why", why, "err", err)
		return
	}
	if had {
		w.log.Warn("the space in reserve was given back", "why", why)
	}
}

// Run looks at the volume until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	told := w.State().Full
	w.tell(told)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.poke:
		case <-timer.C:
			w.look()
		}
		s := w.State()
		if s.Full != told {
			told = s.Full
			w.tell(told)
		}
		timer.Reset(s.nextLook(s.Free))
	}
}

// look looks once and does what follows for the ballast.
func (w *Watcher) look() {
	space, err := w.space()
	if err != nil {
		if !w.blind.Swap(true) {
			w.log.Error("it is not known whether the disk is full", "err", err)
		}
		return
	}
	w.blind.Store(false)
	if w.take(space) == Make {
		w.fill()
	}
}

// fill writes the ballast.
func (w *Watcher) fill() {
	w.wanted.Store(true)
	size := w.State().Ballast
	if err := w.ballast.make(size, w.wanted.Load); err != nil {
		w.log.Warn("no space is kept in reserve", "err", err)
		return
	}
	w.mu.Lock()
	w.state.Reserved = w.wanted.Load()
	reserved := w.state.Reserved
	w.mu.Unlock()
	if !reserved { // it was asked for in the last moment
		w.release("a write found no space")
		return
	}
	w.log.Debug("space is kept in reserve", "bytes", size)
}

// tell says that the volume is full, or that it is not.
func (w *Watcher) tell(full bool) {
	switch s := w.State(); {
	case s.Total == 0:
		w.log.Info("the system does not tell how much space the disk has: it never counts as full")
	case full:
		w.log.Error("the disk is full: nothing is taken before there is space again",
			"free_bytes", s.Free, "total_bytes", s.Total, "full_below", s.Low, "again_above", s.Clear)
	default:
		w.log.Info("the disk has space", "free_bytes", s.Free, "total_bytes", s.Total, "full_below", s.Low)
	}
	w.opts.Changed(full)
}
