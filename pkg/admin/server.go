package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of one client. A scrape of a busy node is some hundred KiB, so the
// write timeout is generous; profiles extend it for themselves.
const (
	readTimeout    = 5 * time.Second
	writeTimeout   = 15 * time.Second
	idleTimeout    = 60 * time.Second
	maxHeaderBytes = 16 << 10
)

// closeGrace is how long Close lets requests finish before it cuts them.
const closeGrace = 500 * time.Millisecond

// Check is one line of /readyz?verbose.
type Check struct {
	Name     string // as in "broker", "first pull"
	OK       bool   // false: the node must get no clients
	Degraded bool   // OK, but the operator should know; ignored when not OK
	Detail   string // why, when not OK or degraded
}

// Options of a Server.
type Options struct {
	// Address is host:port to listen on. Port 0 takes a free one.
	Address string
	// Gatherer is what /metrics shows; nil shows nothing.
	Gatherer prometheus.Gatherer
	// Ready returns the checks of /readyz. It is called for each request, by
	// several goroutines at once, and should not block. Nil means no checks.
	Ready func() []Check
	// API is what /api/ answers from.
	API API
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Pprof serves /debug/pprof/.
	Pprof bool
}

// Server answers operators over HTTP. It listens from the moment it is made and
// answers once Serve runs.
type Server struct {
	log    *slog.Logger
	ln     net.Listener
	http   http.Server
	cancel context.CancelFunc // ends the context of every request
	conns  sync.WaitGroup     // one for each open connection
	served chan struct{}      // closed when Serve has returned its last connection
	stop   sync.Once

	mu      sync.Mutex
	started bool
	closed  bool
}

// Listen binds the address. Who connects before Serve waits.
func Listen(opts Options) (*Server, error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ln, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("admin HTTP: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		log:    log.With("component", "admin"),
		ln:     ln,
		cancel: cancel,
		served: make(chan struct{}),
	}
	s.http = http.Server{
		Handler:           newHandler(opts, s.log),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.track,
	}
	return s, nil
}

// Addr returns the address that the server listens on, with the real port.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Serve answers requests until ctx ends or Close is called, and returns nil
// then, with every connection closed. It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	first, err := s.begin()
	if !first {
		return err
	}
	defer close(s.served)
	disarm := context.AfterFunc(ctx, s.shutdown)
	s.log.Info("admin HTTP listens", "addr", s.ln.Addr().String())
	err = s.http.Serve(s.ln)
	disarm()
	s.shutdown()
	s.conns.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin HTTP: %w", err)
}

// begin reports whether this is the first Serve of an open server.
func (s *Server) begin() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, nil
	}
	if s.started {
		return false, errors.New("admin HTTP: Serve called twice")
	}
	s.started = true
	return true, nil
}

// Close stops the server and returns when no request is being answered any
// more. Further calls do the same and change nothing.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	started := s.started
	s.mu.Unlock()
	s.shutdown()
	if started {
		<-s.served
	}
}

// shutdown refuses new connections, lets requests finish for a moment and cuts
// what is left. It returns before the cut ones have ended: conns knows when.
func (s *Server) shutdown() {
	s.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			s.cancel()
			_ = s.http.Close() // nothing to learn: the connections are cut
		}
		s.cancel()
		_ = s.ln.Close() // already closed, unless Serve never ran
	})
}

// track counts connections: http calls it with StateNew in the accept loop, so
// before the connection's goroutine exists, and once at its end.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}
