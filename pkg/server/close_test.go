package server

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"merklekv/pkg/internal/poll"
	"merklekv/pkg/journal"
)

func TestShutdownCommand(t *testing.T) {
	asked := make(chan struct{})
	s := startServer(t, Options{Shutdown: func() { close(asked) }})
	c := dial(t, s)
	c.send("SHUTDOWN\r\n")
	if got := c.expectEnd(); got != "OK\r\n" {
		t.Fatalf("got %q", got)
	}
	<-asked
}

func TestCloseEndsAllConnections(t *testing.T) {
	s := startServer(t, Options{Peer: func(ctx context.Context, nc net.Conn, rest []byte) {
		io.Copy(io.Discard, nc) // ends only with the connection
	}})
	idle, begun, peer := dial(t, s), dial(t, s), dial(t, s)
	idle.ask("PING", "PONG")
	begun.send("PING\r\nSET k unfinished")
	begun.line()
	peer.ask("PEER", "OK")
	poll.Until(t, patience, func() bool { return s.Stats().Peers == 1 })
	s.Close()
	s.Close()
	for _, c := range []*client{idle, begun, peer} {
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("a connection outlived the server")
		}
	}
	if st := s.Stats(); st.Clients+st.Peers != 0 {
		t.Errorf("%+v", st)
	}
	if err := s.Serve(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

func TestCloseLetsWritesFinish(t *testing.T) {
	store := newMemory()
	store.durable = true
	waiting, closing := make(chan struct{}), make(chan struct{})
	store.wait = func(ctx context.Context, _ journal.Ticket) error {
		close(waiting)
		<-closing
		return ctx.Err()
	}
	s := startServer(t, Options{Store: store})
	c := dial(t, s)
	c.send("SET k v\r\n")
	<-waiting
	go s.Close()
	<-s.peerCtx.Done()
	close(closing)
	if got := c.expectEnd(); got != "OK\r\n" {
		t.Fatalf("got %q", got)
	}
}

// A client that never reads does not hold up Close.
func TestCloseWithABlockedWriter(t *testing.T) {
	store := newMemory()
	store.values["big"] = []byte(strings.Repeat("v", 8<<20))
	s := startServer(t, Options{Store: store})
	c := dial(t, s)
	c.send(strings.Repeat("GET big\r\n", 8))
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseWriting })
	s.Close()
}

func TestServeEndsWithItsContext(t *testing.T) {
	s, err := Listen(Options{Address: "127.0.0.1:0", Store: newMemory()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	cancel()
	if err := <-served; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
