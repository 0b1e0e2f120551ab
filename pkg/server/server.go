package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"merklekv/pkg/protocol"
)

const (
	// closeGrace is how long Close lets running requests finish.
	closeGrace = 500 * time.Millisecond
	// sweepInterval is how often timeouts are looked at.
	sweepInterval = time.Second
	// maxRefusing is how many refused connections are told why at a time.
	maxRefusing = 32
)

// Server is a TCP listener and its connections.
type Server struct {
	opts    Options
	ln      net.Listener
	env     environment
	metrics *metrics
	started time.Time
	limits  atomic.Pointer[Limits]

	input    budget
	replies  budget
	refusing chan struct{} // a semaphore

	peerCtx    context.Context // ends when Close begins
	stopPeers  context.CancelFunc
	writeCtx   context.Context // ends when Close waits no longer
	stopWrites context.CancelFunc
	tasks      sync.WaitGroup // connections, refusals, accept and sweep
	closed     chan struct{}  // closed by Close when all is stopped

	mu      sync.Mutex
	closing bool
	nextID  uint64
	conns   map[*conn]struct{}
	clients int // connections that are no peer's
}

// Listen binds the address. Connections wait until Serve is called.
func Listen(opts Options) (*Server, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	s, err := newServer(opts, ln)
	if err != nil {
		ln.Close()
		return nil, err
	}
	return s, nil
}

// newServer makes a server of completed options.
func newServer(opts Options, ln net.Listener) (*Server, error) {
	s := &Server{
		opts:     opts,
		ln:       ln,
		started:  time.Now(),
		input:    budget{total: max(inputBudget, 4*int64(opts.MaxRequestBytes))},
		replies:  budget{total: replyBudget},
		refusing: make(chan struct{}, maxRefusing),
		closed:   make(chan struct{}),
		conns:    make(map[*conn]struct{}),
	}
	limits := opts.Limits.withDefaults()
	s.limits.Store(&limits)
	s.peerCtx, s.stopPeers = context.WithCancel(context.Background())
	s.writeCtx, s.stopWrites = context.WithCancel(context.Background())
	s.metrics = newMetrics(s.counts)
	s.env = environment{
		store:    opts.Store,
		repair:   opts.Repair,
		cluster:  opts.Cluster,
		ready:    opts.Ready,
		version:  opts.Version,
		peers:    opts.Peer != nil,
		shutdown: opts.Shutdown != nil,
		info:     s.infoSections,
		stats:    s.statFields,
		replies:  &s.replies,
		clients:  s.clientList,
		failed: func(command string, err error) {
			opts.Logger.Error("command failed", "command", command, "error", err)
		},
	}
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(s.metrics); err != nil {
			return nil, fmt.Errorf("register server metrics: %w", err)
		}
	}
	return s, nil
}

// Addr returns the address that the server is bound to.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// SetLimits changes the limits of a running server. A lower limit of
// connections closes none.
func (s *Server) SetLimits(l Limits) error {
	if err := l.check(); err != nil {
		return err
	}
	l = l.withDefaults()
	s.limits.Store(&l)
	return nil
}

// Serve accepts connections until Close is called or ctx ends, which closes the
// server, and returns ErrClosed when all is stopped.
func (s *Server) Serve(ctx context.Context) error {
	if s.start(func() { s.sweep(s.peerCtx) }) && s.start(s.accept) {
		stop := context.AfterFunc(ctx, s.Close)
		defer stop()
	}
	<-s.closed
	return ErrClosed
}

// start runs a task that Close waits for, and reports whether it did: not when
// the server is closing.
func (s *Server) start(task func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.tasks.Go(task)
	}
	return !s.closing
}

// accept takes connections until the listener is closed.
func (s *Server) accept() {
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		nc, err := s.ln.Accept()
		switch {
		case err == nil:
			pause = least
			s.admit(nc)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		s.opts.Logger.Warn("cannot accept a connection", "error", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-s.peerCtx.Done():
			return
		}
		pause = min(2*pause, most)
	}
}

// admit starts a connection, or refuses it.
func (s *Server) admit(nc net.Conn) {
	c := s.register(nc)
	if c == nil {
		s.refuse(nc)
		return
	}
	if !s.start(c.serve) {
		s.forget(c, false)
		c.kill()
	}
}

// register makes a connection known before it runs. It returns nil if there is
// no room for another.
func (s *Server) register(nc net.Conn) *conn {
	limit := s.limits.Load().MaxConnections
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.conns) >= limit+peerSlots {
		return nil
	}
	s.nextID++
	c := newConn(s, nc, s.nextID, s.clients >= limit)
	s.conns[c] = struct{}{}
	s.clients++
	s.metrics.accepted.Add(1)
	return c
}

// becamePeer frees the client's place of a connection.
func (s *Server) becamePeer() {
	s.mu.Lock()
	s.clients--
	s.mu.Unlock()
}

// forget ends what register began.
func (s *Server) forget(c *conn, wasPeer bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if !wasPeer {
		s.clients--
	}
}

// refuse tells a connection that there are too many. In a flood not everybody
// is told.
func (s *Server) refuse(nc net.Conn) {
	s.metrics.refused.Add(1)
	select {
	case s.refusing <- struct{}{}:
	default:
		nc.Close()
		return
	}
	told := s.start(func() {
		nc.SetDeadline(time.Now().Add(lingerTime))
		nc.Write([]byte("ERROR: " + protocol.ErrTooManyConnections.Message + "\r\n"))
		linger(nc)
		nc.Close()
		<-s.refusing
	})
	if !told {
		nc.Close()
		<-s.refusing
	}
}

// counts returns how many clients and peers are connected.
func (s *Server) counts() (clients, peers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients, len(s.conns) - s.clients
}

// snapshot returns the connections in the order of their acceptance.
func (s *Server) snapshot() []*conn {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	slices.SortFunc(conns, func(a, b *conn) int { return int(a.id) - int(b.id) })
	return conns
}

// Close stops accepting, lets the requests that were read finish for a moment,
// closes all connections, and returns when nothing runs any more. Further calls
// wait for the same.
func (s *Server) Close() {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	s.mu.Unlock()
	if !first {
		<-s.closed
		return
	}
	s.ln.Close()
	s.stopPeers()
	conns := s.snapshot()
	for _, c := range conns {
		c.interrupt()
	}
	force := time.AfterFunc(closeGrace, func() {
		s.stopWrites()
		for _, c := range conns {
			c.kill()
		}
	})
	s.tasks.Wait()
	force.Stop()
	s.stopWrites()
	if s.opts.Registerer != nil {
		s.opts.Registerer.Unregister(s.metrics)
	}
	close(s.closed)
}

// now is the time since the server's start. It is cheaper than a wall clock.
func (s *Server) now() time.Duration { return time.Since(s.started) }

// sweep enforces the timeouts, so that no request has to set a timer.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, limits := s.now(), s.limits.Load()
		_, peers := s.counts()
		input, replies := s.input.contended(), s.replies.contended()
		for _, c := range s.snapshot() {
			if peers >= peerSlots && c.isSilent(now) {
				c.kill()
				continue
			}
			stalled := c.stalled(now, limits.ConnectionTimeout/stallPart, input, replies)
			if (stalled || c.overdue(now, limits)) && c.expire() {
				s.metrics.timedOut.Add(1)
			}
		}
	}
}
