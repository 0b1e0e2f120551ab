package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RunnerOptions say what a Runner makes, and how often.
type RunnerOptions struct {
	Options
	Source     Source
	Interval   time.Duration         // between two backups; above 0
	Logger     *slog.Logger          // nil: no log
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

// Runner makes the backups of a node, one at a time: at their times, and when an
// operator asks. All methods may be called by several goroutines at once.
type Runner struct {
	options Options
	source  Source
	log     *slog.Logger
	metrics *metrics
	place   chan struct{} // holds a token while a backup is made, and for ever after Close
	changed chan struct{} // capacity 1: the time of the next backup has changed
	life    context.Context
	end     context.CancelFunc // of life
	closing sync.Once

	mu       sync.Mutex
	schedule *schedule
	last     *Manifest // the newest good one, nil if there is none
	failure  error     // of the last attempt, nil if it went well
	keep     int
}

// Status is how the backups of a node stand.
type Status struct {
	Running bool
	Last    *Manifest     // the newest good backup, nil if there is none
	Age     time.Duration // of Last; without one, since the start
	Due     time.Time     // of the next one
	Overdue bool          // Age is more than twice the interval
	Failure error         // of the last attempt, nil if it went well
}

// NewRunner returns a Runner that continues where the backups in the directory
// end. It makes none before Run or Now. That the directory cannot be read is no
// error here: the status tells it, and the next attempt may find it well.
func NewRunner(o RunnerOptions) (*Runner, error) {
	o.Options.setDefaults()
	if err := o.Options.check(); err != nil {
		return nil, err
	}
	if o.Interval <= 0 {
		return nil, fmt.Errorf("backups cannot be made every %v", o.Interval)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runner{
		options: o.Options, source: o.Source, log: o.Logger.With("component", "backup"),
		place: make(chan struct{}, 1), changed: make(chan struct{}, 1), keep: o.Keep,
	}
	r.life, r.end = context.WithCancel(context.Background())
	all, err := List(o.FS, o.Dir)
	r.failure = err
	var last time.Time
	if good := goodOf(o.NodeID, all); len(good) > 0 {
		r.last, last = &good[0].Manifest, good[0].Created
	}
	r.schedule = newSchedule(o.Interval, o.Now(), last, rand.Float64)
	r.metrics = newMetrics(r)
	return r, r.metrics.register(o.Registerer)
}

// look is how often the wall clock is looked at, which may be set meanwhile.
const look = time.Minute

// Run makes a backup whenever one is due, until ctx ends, and closes the Runner
// then. It may be called once.
func (r *Runner) Run(ctx context.Context) {
	defer r.Close()
	for {
		wait := r.untilDue()
		if wait <= 0 {
			_, _ = r.Now(ctx, nil) // Now logs how it went
			wait = r.untilDue()
		}
		timer := time.NewTimer(min(max(wait, time.Second), look))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// Close ends the making of backups: one that is being made is given up, and Close
// returns when nobody uses the source any more. Further calls do the same.
func (r *Runner) Close() {
	r.end()
	r.closing.Do(func() { r.place <- struct{}{} })
}

func (r *Runner) untilDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.options.Now()
	return r.schedule.due(now).Sub(now)
}

// Now makes a backup at once and returns its manifest. It returns ErrRunning when
// one is being made already, and ErrClosed. An error that is a *RotationError
// leaves a good backup.
func (r *Runner) Now(ctx context.Context, tell Progress) (Manifest, error) {
	select {
	case r.place <- struct{}{}:
	default:
		if r.life.Err() != nil {
			return Manifest{}, ErrClosed
		}
		return Manifest{}, ErrRunning
	}
	defer func() { <-r.place }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	if r.life.Err() != nil {
		return Manifest{}, ErrClosed
	}
	o := r.options
	r.mu.Lock()
	o.Keep = r.keep
	r.mu.Unlock()
	o.Progress = tell
	begin := o.Now()
	m, err := Create(ctx, r.source, o)
	r.note(ctx, &m, err, o.Now().Sub(begin))
	return m, err
}

// note takes down how an attempt ended. One that was given up because nobody
// wants it any more has not failed.
func (r *Runner) note(ctx context.Context, m *Manifest, err error, took time.Duration) {
	var rotation *RotationError
	good := err == nil || errors.As(err, &rotation)
	r.mu.Lock()
	switch {
	case good:
		r.last = m
		r.schedule.made(m.Created)
		r.failure = err
	case ctx.Err() == nil:
		r.schedule.missed(r.options.Now())
		r.failure = err
	}
	r.mu.Unlock()
	if good {
		r.metrics.duration.Set(took.Seconds())
		r.log.Info("backup is made", "backup", m.Name(), "entries", m.Entries, "bytes", m.Bytes, "took", took.Round(time.Millisecond).String())
	}
	if err != nil && ctx.Err() == nil {
		r.metrics.failures.Inc()
		r.log.Error("backup failed", "err", err)
	}
}

// Set puts another interval and another number of backups into force.
func (r *Runner) Set(interval time.Duration, keep int) {
	r.mu.Lock()
	if interval > 0 {
		r.schedule.interval = interval
	}
	r.keep = max(keep, 1)
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Status returns how the backups stand now.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.options.Now()
	s := Status{
		Running: len(r.place) > 0, Last: r.last, Due: r.schedule.due(now), Overdue: r.schedule.overdue(now), Failure: r.failure,
	}
	since := r.schedule.start
	if r.last != nil {
		since = r.last.Created
	}
	s.Age = max(now.Sub(since), 0)
	return s
}

// List returns this node's backups, newest first, those that cannot be read
// included.
func (r *Runner) List() ([]Backup, error) {
	all, err := List(r.options.FS, r.options.Dir)
	var own []Backup
	for _, b := range all {
		if b.NodeID == r.options.NodeID {
			own = append(own, b)
		}
	}
	return own, err
}
