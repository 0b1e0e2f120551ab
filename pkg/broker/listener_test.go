package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
)

// failingListener fails the first accepts.
type failingListener struct {
	net.Listener
	mu       sync.Mutex
	failures int
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures > 0 {
		l.failures--
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(&failingListener{Listener: ln, failures: 3}, Options{}.withDefaults(), slog.New(slog.DiscardHandler))
	established := make(chan string, 1)
	var serving sync.WaitGroup
	serving.Go(func() {
		l.Serve(func(_ string, c net.Conn) error {
			established <- c.RemoteAddr().String()
			return c.Close()
		})
	})
	nc, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	select {
	case got := <-established:
		if got != nc.LocalAddr().String() {
			t.Errorf("connection from %s, want %s", got, nc.LocalAddr())
		}
	case <-time.After(patience):
		t.Error("no connection after errors")
	}
	l.stop()
	l.stop()
	l.wait()
	serving.Wait()
	poll.Until(t, patience, func() bool { return l.count() == 0 }, "no connection is left")
}

func TestQuietLog(t *testing.T) {
	var out strings.Builder
	level := new(slog.LevelVar)
	log := slog.New(quiet{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})})
	log.Warn("chatter", "pk", "payload")
	if log.Enabled(context.Background(), slog.LevelWarn) || out.Len() != 0 {
		t.Errorf("chatter at level info: %s", out.String())
	}
	level.Set(slog.LevelDebug)
	log.With("a", 1).WithGroup("g").Warn("chatter", "pk", "payload", "client", "c1")
	if got := out.String(); strings.Contains(got, "payload") || !strings.Contains(got, "level=DEBUG") || !strings.Contains(got, "c1") {
		t.Errorf("chatter at level debug: %s", got)
	}
	level.Set(slog.LevelError)
	log.Error("trouble")
	if !strings.Contains(out.String(), "trouble") {
		t.Error("an error was not logged")
	}
}
