package mqttlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"merklekv/pkg/internal/poll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for; nothing takes that long.
const patience = 15 * time.Second

// rights is what the test broker allows.
type rights struct {
	mqtt.HookBase
	password string // empty: anybody
	filter   string // refused; empty: none

	// retained keeps Mochi from reading where it writes; see package broker.
	retained sync.RWMutex
}

func (r *rights) ID() string { return "rights" }
func (r *rights) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnWill,
		mqtt.OnRetainMessage, mqtt.OnSubscribed, mqtt.OnPacketProcessed:
		return true
	}
	return false
}
func (r *rights) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Retain {
		r.retained.Lock()
	}
	return pk, nil
}
func (r *rights) OnWill(_ *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	if will.Retain {
		r.retained.Lock()
	}
	return will, nil
}
func (r *rights) OnRetainMessage(*mqtt.Client, packets.Packet, int64) { r.retained.Unlock() }
func (r *rights) OnSubscribed(*mqtt.Client, packets.Packet, []byte)   { r.retained.RLock() }
func (r *rights) OnPacketProcessed(_ *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type == packets.Subscribe {
		r.retained.RUnlock()
	}
}
func (r *rights) OnConnectAuthenticate(_ *mqtt.Client, pk packets.Packet) bool {
	return r.password == "" || string(pk.Connect.Password) == r.password
}
func (r *rights) OnACLCheck(_ *mqtt.Client, topic string, _ bool) bool {
	return r.filter == "" || topic != r.filter
}

// testBroker is a Mochi server that the test can stop.
type testBroker struct {
	*mqtt.Server
	addr string
	stop func()
}

// testListener is a listener for Mochi. Mochi's own has data races at its end.
type testListener struct {
	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

func (l *testListener) Init(*slog.Logger) error { return nil }
func (l *testListener) ID() string              { return "t" }
func (l *testListener) Address() string         { return l.ln.Addr().String() }
func (l *testListener) Protocol() string        { return "tcp" }

func (l *testListener) Serve(establish listeners.EstablishFn) {
	for {
		c, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.closed {
			_ = c.Close()
		} else {
			l.conns = append(l.conns, c)
			l.wg.Go(func() { _ = establish("t", c) })
		}
		l.mu.Unlock()
	}
}

func (l *testListener) Close(listeners.CloseFn) {
	_ = l.ln.Close()
	l.mu.Lock()
	l.closed = true
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// startBroker listens on addr until the test ends or stop is called.
func startBroker(t *testing.T, addr string, r *rights) *testBroker {
	t.Helper()
	s := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler), SysTopicResendInterval: 3600, InlineClient: true})
	if err := s.AddHook(r, nil); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l := &testListener{ln: ln}
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	b := &testBroker{Server: s, addr: l.Address()}
	b.stop = sync.OnceFunc(func() { _ = s.Close() })
	t.Cleanup(b.stop)
	return b
}

// proxy is a wire between link and broker that can be cut and blocked.
type proxy struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu      sync.Mutex
	stalled chan struct{} // not nil: nothing passes until it is closed
	conns   []net.Conn
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.resume()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(in, out) })
		p.wg.Go(func() { p.pump(out, in) })
	}
}

func (p *proxy) pump(dst, src net.Conn) {
	defer func() { _ = dst.Close(); _ = src.Close() }()
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		stalled := p.stalled
		p.mu.Unlock()
		if stalled != nil {
			<-stalled
		}
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// stall lets nothing pass any more, and closes nothing.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = make(chan struct{})
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// harness is a running link and what it received.
type harness struct {
	*Link
	stop func()

	mu     sync.Mutex
	got    []string // topic=payload
	states []State
}

// run starts a link with the defaults of the tests and stops it with the test.
func run(t *testing.T, o Options) *harness {
	t.Helper()
	h := &harness{}
	if o.ClientID == "" {
		o.ClientID = "kv/n1"
	}
	if o.Handler == nil {
		o.Handler = h.add
	}
	o.OnState = func(s State) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.states = append(h.states, s)
	}
	o.MinBackoff, o.MaxBackoff = time.Millisecond, 20*time.Millisecond
	o.KeepAlive = time.Minute
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.Link = l
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	h.stop = func() { cancel(); running.Wait() }
	t.Cleanup(h.stop)
	return h
}

func (h *harness) add(topic string, payload []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, topic+"="+string(payload))
}

func (h *harness) received() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.got...)
}

func (h *harness) has(message string) bool {
	for _, m := range h.received() {
		if m == message {
			return true
		}
	}
	return false
}

func (h *harness) waitUp(t *testing.T) {
	t.Helper()
	poll.Until(t, patience, h.Up, "link is up")
}

func (h *harness) waitConnects(t *testing.T, n uint64) {
	t.Helper()
	poll.Until(t, patience, func() bool { return h.Stats().Connects >= n && h.Up() }, "session number ", n)
}

func (h *harness) waitReason(t *testing.T, want error) {
	t.Helper()
	poll.Until(t, patience, func() bool { return errors.Is(h.Stats().LastError, want) }, "reason ", want)
}

// rawBroker answers the first connection as a script says.
func rawBroker(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				answer(c)
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(s))
}
