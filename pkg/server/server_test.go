package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// startServer serves a store on a free port until the test ends.
func startServer(t testing.TB, opts Options) *Server {
	t.Helper()
	opts.Address = "127.0.0.1:0"
	if opts.Store == nil {
		opts.Store = newMemory()
	}
	if opts.Version == "" {
		opts.Version = "1.2.3"
	}
	s, err := Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s
}

// client is one end of a text connection.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return &client{t, nc, bufio.NewReader(nc)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// line reads one reply line without its end.
func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("after %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// ask sends a request and expects one line.
func (c *client) ask(request, want string) {
	c.t.Helper()
	c.send(request + "\r\n")
	if got := c.line(); got != want {
		c.t.Fatalf("%q answered %q, want %q", request, got, want)
	}
}

// expectEnd reads until the server closes.
func (c *client) expectEnd() string {
	c.t.Helper()
	text, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("connection was not closed in order: %v", err)
	}
	return string(text)
}

func TestConversation(t *testing.T) {
	c := dial(t, startServer(t, Options{}))
	c.ask(`SET user:alice "Alice Johnson"`, "OK")
	c.ask("GET user:alice", `"Alice Johnson"`)
	c.ask("DEL user:alice", "DELETED")
	c.ask("GET user:alice", "(null)")
	c.send("QUIT\r\nPING\r\n")
	if got := c.expectEnd(); got != "OK\r\n" {
		t.Fatalf("after QUIT: %q", got)
	}
}
