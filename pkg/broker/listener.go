package broker

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// Bounds of the wait after an accept that failed.
const (
	minAcceptWait = 5 * time.Millisecond
	maxAcceptWait = time.Second
)

// listener accepts connections for Mochi. Unlike Mochi's own it goes on after an
// error, knows each connection before anything is read from it, and wraps it in a
// conn.
type listener struct {
	ln         net.Listener
	log        *slog.Logger
	maxClients int
	newConn    func(net.Conn) *conn
	closed     chan struct{} // closed by stop
	wg         sync.WaitGroup

	refused atomic.Uint64 // connections beyond maxClients

	mu      sync.Mutex
	stopped bool
	conns   map[*conn]struct{}
}

var _ listeners.Listener = (*listener)(nil)

func newListener(ln net.Listener, o Options, log *slog.Logger) *listener {
	return &listener{
		ln: ln, log: log, maxClients: o.MaxClients,
		newConn: func(c net.Conn) *conn { return newConn(c, o) },
		closed:  make(chan struct{}),
		conns:   make(map[*conn]struct{}),
	}
}

// ID names the listener within Mochi.
func (l *listener) ID() string { return "tcp" }

// Protocol names the protocol in Mochi's log.
func (l *listener) Protocol() string { return "tcp" }

// Address returns the address that is listened on.
func (l *listener) Address() string { return l.ln.Addr().String() }

// Init has nothing to do: the address was bound by New.
func (l *listener) Init(*slog.Logger) error { return nil }

// Close does what stop does. Mochi's closeClients is not needed: a client ends
// with its connection, and nothing has to be written to it before.
func (l *listener) Close(listeners.CloseFn) { l.stop() }

// Serve accepts connections until stop.
func (l *listener) Serve(establish listeners.EstablishFn) {
	if !l.enter() {
		return
	}
	defer l.wg.Done()
	wait := time.Duration(0)
	for {
		c, err := l.ln.Accept()
		if l.isClosed() || errors.Is(err, net.ErrClosed) {
			if err == nil {
				_ = c.Close() // never served
			}
			return
		}
		if err == nil {
			wait = 0
			l.serve(c, establish)
			continue
		}
		if wait == 0 {
			l.log.Warn("connections cannot be accepted, trying again", "error", err)
		}
		wait = min(max(2*wait, minAcceptWait), maxAcceptWait)
		if !l.pause(wait) {
			return
		}
	}
}

// pause returns false when the listener stops before d has passed.
func (l *listener) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closed:
		return false
	}
}

// serve hands a connection over to Mochi.
func (l *listener) serve(nc net.Conn, establish listeners.EstablishFn) {
	c := l.newConn(nc)
	if !l.add(c) {
		_ = c.Close() // never served
		return
	}
	go func() {
		defer l.remove(c)
		if err := establish(l.ID(), c); err != nil {
			l.log.Debug("client has gone", "remote", c.RemoteAddr().String(), "error", err)
		}
	}()
}

// enter counts a goroutine that wait waits for, unless the listener has stopped.
func (l *listener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.wg.Add(1)
	return true
}

func (l *listener) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	if len(l.conns) >= l.maxClients {
		l.refused.Add(1)
		return false
	}
	l.conns[c] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *listener) remove(c *conn) {
	_ = c.Close() // Mochi has closed it
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.wg.Done()
}

// stop ends Serve and closes all connections.
func (l *listener) stop() {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return
	}
	l.stopped = true
	conns := l.conns
	l.conns = make(map[*conn]struct{})
	l.mu.Unlock()
	close(l.closed)
	if err := l.ln.Close(); err != nil {
		l.log.Warn("listener cannot be closed", "error", err)
	}
	for c := range conns {
		_ = c.Close() // nothing is to be saved
	}
}

// wait returns when all that Serve started has ended.
func (l *listener) wait() { l.wg.Wait() }

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// count returns the number of connections.
func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}
