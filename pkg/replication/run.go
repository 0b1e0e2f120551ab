package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	tickEvery    = 100 * time.Millisecond
	flushTimeout = 500 * time.Millisecond // for what is left to publish at the end
)

// Run replicates until ctx ends, and returns nil then, after it has published
// what was left and said good-bye. It returns an error that wraps
// ErrDuplicateNodeID when this node has to give way. Run can be called once.
func (r *Replicator) Run(ctx context.Context) error {
	if r.ran.Swap(true) {
		return errors.New("replication was started before")
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	linkCtx, stopLinks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLinks()
	flush, stopFlush := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFlush()

	var links, publishers sync.WaitGroup
	for i := range r.links {
		links.Go(func() {
			if err := r.links[i].Run(linkCtx); err != nil && linkCtx.Err() == nil {
				r.log.Error("broker link ended", "broker", r.links[i].Broker(), "err", err)
			}
		})
		publishers.Go(func() { r.publishers[i].run(ctx, flush) })
	}
	publishers.Go(func() { r.fanOut(ctx) })

	r.loop(ctx, stop)

	// Reverse order of what depends on what: nobody asks the core any more, the
	// last changes go out, the good-bye follows them, the links close.
	close(r.ended)
	bound := time.AfterFunc(flushTimeout, stopFlush)
	defer bound.Stop()
	publishers.Wait()
	r.sayGoodbye(flush)
	stopLinks()
	links.Wait()
	r.workers.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, ErrDuplicateNodeID) {
		return cause
	}
	return nil
}

// fanOut tells every publisher that own changes were added.
func (r *Replicator) fanOut(ctx context.Context) {
	for {
		select {
		case <-r.opts.Replica.Changed():
			for _, p := range r.publishers {
				p.poke()
			}
		case <-ctx.Done():
			return
		}
	}
}

// sayGoodbye makes the retained presence say that this node is down.
func (r *Replicator) sayGoodbye(ctx context.Context) {
	m := r.presence(false)
	for _, l := range r.links {
		l.Publish(ctx, m.Topic, m.Retained, m.Payload) // the will says the same
	}
}

// loop feeds the core until ctx ends.
func (r *Replicator) loop(ctx context.Context, stop context.CancelCauseFunc) {
	start := time.Now()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	c := r.core
	for _, name := range r.opts.PeerList {
		c.AddHost(name, true)
	}
	c.Tick()
	ready := false
	for {
		r.perform(ctx, stop, c.Take())
		ticked := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.now, ticked = time.Since(start), true
			c.Tick()
		case <-r.linkState:
			c.now, ticked = time.Since(start), true
			c.OnLinks(r.linksUp())
		case <-r.epochs:
			c.now = time.Since(start)
			c.step()
		case fn := <-r.events:
			c.now = time.Since(start)
			fn(c)
		}
		r.alone.Store(c.solo)
		if ticked || c.ready != ready {
			ready = c.ready
			s := c.Status()
			r.snapshot.Store(&s)
		}
	}
}

// perform carries out what the core decided.
func (r *Replicator) perform(ctx context.Context, stop context.CancelCauseFunc, actions []Action) {
	for _, a := range actions {
		switch a.Kind {
		case ActHead:
			head := r.codec.Seal(KindHead, r.opts.Replica.Instance(), r.counter.Add(1), a.Head)
			for _, p := range r.publishers {
				p.head.Store(&head)
				p.poke()
			}
		case ActAsk:
			ask := r.codec.Seal(KindAsk, r.opts.Replica.Instance(), r.counter.Add(1), nil)
			for _, p := range r.publishers {
				p.ask.Store(&ask)
				p.poke()
			}
		case ActDial:
			r.workers.Go(func() { r.dial(ctx, a.Addr) })
		case ActResolve:
			r.workers.Go(func() { r.resolve(ctx, a.Addr) })
		case ActReadOnly:
			if r.opts.ReadOnly != nil {
				r.opts.ReadOnly(a.Why)
			}
		case ActStop:
			stop(fmt.Errorf("%w: %s", ErrDuplicateNodeID, a.Why))
		}
	}
}

// dial runs one exchange and reports its end.
func (r *Replicator) dial(ctx context.Context, addr string) {
	err := r.exchange(ctx, addr)
	switch {
	case err == nil:
	case errors.Is(err, ErrSelf):
		err = nil
	case ctx.Err() == nil:
		r.quiet.warn(r.log.With("addr", addr), "peer cannot be reached "+addr, err)
	}
	r.do(ctx, func(c *Core) { c.OnDialEnded(addr, err) })
}

// resolve looks a name up and reports its addresses, none if that fails.
func (r *Replicator) resolve(ctx context.Context, name string) {
	var addrs []string
	host, port, err := net.SplitHostPort(name)
	if err == nil {
		lookup, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		ips := []string{host}
		if net.ParseIP(host) == nil {
			ips, err = r.opts.Resolve(lookup, host)
		}
		for _, ip := range ips {
			addrs = append(addrs, net.JoinHostPort(ip, port))
		}
	}
	if err != nil && ctx.Err() == nil {
		r.quiet.warn(r.log.With("name", name), "peer's name cannot be looked up "+name, err)
	}
	r.do(ctx, func(c *Core) { c.OnResolved(name, addrs) })
}

// do has the core do something and waits for that.
func (r *Replicator) do(ctx context.Context, fn func(*Core)) error {
	done := make(chan struct{})
	select {
	case r.events <- func(c *Core) { fn(c); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
		return errStopped
	}
	select {
	case <-done:
		return nil
	case <-r.ended:
		return errStopped
	}
}

// tell has the core do something some time, unless it has stopped.
func (r *Replicator) tell(fn func(*Core)) {
	select {
	case r.events <- fn:
	case <-r.ended:
	}
}

// pokeLinks says that some link's state changed.
func (r *Replicator) pokeLinks() {
	select {
	case r.linkState <- struct{}{}:
	default:
	}
}

func (r *Replicator) linksUp() int {
	n := 0
	for _, l := range r.links {
		if l.Up() {
			n++
		}
	}
	return n
}

// quiet logs the same trouble at most once in half a minute.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const quietFor = 30 * time.Second

func (q *quiet) warn(log *slog.Logger, msg string, err error, args ...any) {
	if q.pass(msg+reasonOf(err), time.Now()) {
		log.Warn(msg, append(args, "err", err)...)
	}
}

func (q *quiet) pass(key string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.last[key]) < quietFor {
		return false
	}
	if q.last == nil || len(q.last) > maxPeers {
		q.last = make(map[string]time.Time)
	}
	q.last[key] = now
	return true
}
