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

	"merklekv/pkg/internal/poll"
	"merklekv/pkg/journal"
	"merklekv/pkg/protocol"
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

func TestHalfCloseGetsAllReplies(t *testing.T) {
	s := startServer(t, Options{})
	c := dial(t, s)
	c.send("SET k v\nGET k\nGET unfinished")
	c.Conn.(*net.TCPConn).CloseWrite()
	if got := c.expectEnd(); got != "OK\r\nv\r\nERROR: Incomplete request\r\n" {
		t.Fatalf("got %q", got)
	}
	poll.Until(t, patience, func() bool { return s.Stats().Clients == 0 })
	if st := s.Stats(); st.Commands != 3 || st.Errors != 1 {
		t.Errorf("%+v", st)
	}
}

func TestBlanksAreNoRequest(t *testing.T) {
	c := dial(t, startServer(t, Options{}))
	c.send("PING\n\n  \r")
	c.Conn.(*net.TCPConn).CloseWrite()
	if got := c.expectEnd(); got != "PONG\r\n" {
		t.Fatalf("got %q", got)
	}
}

// What a client has sent behind its last request does not cost it the answer.
func TestLastAnswerSurvivesUnreadInput(t *testing.T) {
	for _, last := range []string{"QUIT", "SHUTDOWN"} {
		asked := make(chan struct{}, 1)
		c := dial(t, startServer(t, Options{Shutdown: func() { asked <- struct{}{} }}))
		go io.WriteString(c, last+"\r\n"+strings.Repeat("PING\r\n", 200_000))
		if got := c.expectEnd(); got != "OK\r\n" {
			t.Fatalf("%s: %q", last, got)
		}
		if last == "SHUTDOWN" {
			<-asked
		}
	}
}

// Requests count also when their client does not wait for the answers.
func TestUnansweredRequestsAreCounted(t *testing.T) {
	store := newMemory()
	store.durable = true
	store.wait = func(context.Context, journal.Ticket) error { return errors.New("sync failed") }
	s := startServer(t, Options{Store: store})
	c := dial(t, s)
	c.send("SET k v\r\nSET\r\n")
	c.expectEnd()
	poll.Until(t, patience, func() bool { return s.Stats().Clients == 0 })
	if st := s.Stats(); st.Commands != 2 || st.Errors != 1 {
		t.Errorf("%+v", st)
	}
}

func TestLongestRequest(t *testing.T) {
	c := dial(t, startServer(t, Options{}))
	value := strings.Repeat("v", DefaultMaxRequestBytes-len("SET k "))
	c.ask("SET k "+value, "OK")
	c.ask("GET k", value)
	go io.WriteString(c, "SET k "+value+"v\r\nPING\r\n")
	if got := c.expectEnd(); got != "ERROR: Request too long\r\n" {
		t.Fatalf("one byte more: %q", got)
	}
}

func TestEndlessLineIsToldWhy(t *testing.T) {
	c := dial(t, startServer(t, Options{}))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		chunk := []byte(strings.Repeat("x", 64<<10))
		for range 40 {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}()
	if got := c.expectEnd(); got != "ERROR: Request too long\r\n" {
		t.Fatalf("got %q", got)
	}
	c.Close()
	<-sent
}

// Long requests on many connections at once wait for each other, and all are
// answered.
func TestManyLongRequests(t *testing.T) {
	s := startServer(t, Options{MaxRequestBytes: MaxRequestBytes})
	value := strings.Repeat("v", 100_000)
	var clients []*client
	for range 200 {
		c := dial(t, s)
		c.send("PING\r\nECHO " + value[:len(value)-1])
		clients = append(clients, c)
	}
	for i := len(clients) - 1; i >= 0; i-- {
		if got := clients[i].line(); got != "PONG" {
			t.Fatalf("got %q", got)
		}
	}
	for _, c := range clients {
		go io.WriteString(c, "v\r\n")
	}
	for _, c := range clients {
		if got := c.line(); got != value {
			t.Fatalf("got %d bytes", len(got))
		}
	}
}

func TestRESPClientIsRefusedInItsForm(t *testing.T) {
	c := dial(t, startServer(t, Options{}))
	c.send("*1\r\n$4\r\nPING\r\n")
	if got := c.expectEnd(); got != protocol.RESPRefusal {
		t.Fatalf("got %q", got)
	}
}

func TestOneWaitForAPipeline(t *testing.T) {
	store := newMemory()
	store.durable = true
	waited := make(chan journal.Ticket, 10)
	release := make(chan struct{})
	store.wait = func(ctx context.Context, ticket journal.Ticket) error {
		waited <- ticket
		<-release
		return nil
	}
	c := dial(t, startServer(t, Options{Store: store}))
	c.send(strings.Repeat("SET k v\r\n", 20) + "GET k\r\n")
	if ticket := <-waited; ticket != 20 {
		t.Errorf("waited for ticket %d", ticket)
	}
	if n := c.r.Buffered(); n != 0 {
		t.Errorf("%d bytes of replies before the write was durable", n)
	}
	close(release)
	for range 20 {
		if got := c.line(); got != "OK" {
			t.Fatalf("got %q", got)
		}
	}
	if got := c.line(); got != "v" {
		t.Fatalf("got %q", got)
	}
	if n := store.waits.Load(); n != 1 {
		t.Errorf("%d waits", n)
	}
}

func TestNoReplyWithoutDurability(t *testing.T) {
	store := newMemory()
	store.durable = true
	store.wait = func(context.Context, journal.Ticket) error { return errors.New("sync failed") }
	c := dial(t, startServer(t, Options{Store: store}))
	c.send("SET k v\r\n")
	if got := c.expectEnd(); got != "" {
		t.Fatalf("acknowledged by %q", got)
	}
}

// A client that does not read is not served, and disturbs nobody.
func TestSlowReaderStallsOnlyItself(t *testing.T) {
	store := newMemory()
	store.values["big"] = []byte(strings.Repeat("v", 1<<20))
	s := startServer(t, Options{Store: store})
	slow, other := dial(t, s), dial(t, s)
	const requests = 40
	slow.send(strings.Repeat("GET big\r\n", requests))
	poll.Until(t, patience, func() bool {
		other.ask("PING", "PONG")
		return phaseOf(s, 1) == phaseWriting
	}, "the slow client's connection to be blocked")
	sent := s.Stats().BytesOut
	if sent > requests/2<<20 {
		t.Errorf("%d bytes were taken from a server whose client reads nothing", sent)
	}
	for range requests {
		if got := slow.line(); len(got) != 1<<20 {
			t.Fatalf("a reply of %d bytes", len(got))
		}
	}
}

func phaseOf(s *Server, id uint64) phase {
	for _, c := range s.snapshot() {
		if c.id == id {
			return moment(c.moment.Load()).phase()
		}
	}
	return phaseClosing
}

func TestConnectionLimit(t *testing.T) {
	served := make(chan struct{}, 2*peerSlots)
	s := startServer(t, Options{
		Limits: Limits{MaxConnections: 2},
		Peer: func(ctx context.Context, nc net.Conn, rest []byte) {
			served <- struct{}{}
			<-ctx.Done()
		},
	})
	first, second := dial(t, s), dial(t, s)
	first.ask("PING", "PONG")
	second.ask("PING", "PONG")

	third := dial(t, s)
	third.send("GET k\r\n")
	if got := third.expectEnd(); got != "ERROR: Too many connections\r\n" {
		t.Fatalf("a client in the reserve: %q", got)
	}
	poll.Until(t, patience, func() bool { return s.Stats().Clients == 2 })
	for range peerSlots {
		dial(t, s).ask("PEER", "OK")
		<-served
	}
	beyond := dial(t, s)
	beyond.send("PEER\r\n")
	if got := beyond.expectEnd(); got != "ERROR: Too many connections\r\n" {
		t.Fatalf("beyond the reserve: %q", got)
	}
	if st := s.Stats(); st.Peers != peerSlots || st.Clients != 2 || st.Refused != 2 {
		t.Errorf("%+v", st)
	}
	first.ask("PING", "PONG")

	if err := s.SetLimits(Limits{MaxConnections: 20}); err != nil {
		t.Fatal(err)
	}
	dial(t, s).ask("PING", "PONG")
	if err := s.SetLimits(Limits{MaxConnections: -1}); err == nil {
		t.Error("a negative limit was accepted")
	}
}

// A peer's connection takes a client's place only until it says what it is.
func TestPeerFreesTheClientsPlace(t *testing.T) {
	s := startServer(t, Options{
		Limits: Limits{MaxConnections: 1},
		Peer:   func(ctx context.Context, nc net.Conn, rest []byte) { <-ctx.Done() },
	})
	dial(t, s).ask("PEER", "OK")
	poll.Until(t, patience, func() bool { return s.Stats().Peers == 1 })
	dial(t, s).ask("PING", "PONG")
}

func TestPeerTakesOver(t *testing.T) {
	s := startServer(t, Options{Peer: func(ctx context.Context, nc net.Conn, rest []byte) {
		io.Copy(nc, io.MultiReader(strings.NewReader(string(rest)), nc)) // sends back what it gets
	}})
	c := dial(t, s)
	c.send("SET k v\r\nPEER\r\nearly ")
	c.send("late")
	c.Conn.(*net.TCPConn).CloseWrite()
	if got := c.expectEnd(); got != "OK\r\nOK\r\nearly late" {
		t.Fatalf("got %q", got)
	}
	poll.Until(t, patience, func() bool { return s.Stats().Peers == 0 })
}

func TestPeerIsOffWithoutOne(t *testing.T) {
	dial(t, startServer(t, Options{})).ask("PEER", "ERROR: Not authorized")
}

func TestListenReportsProblems(t *testing.T) {
	taken := startServer(t, Options{})
	for name, opts := range map[string]Options{
		"address in use":      {Address: taken.Addr().String(), Store: newMemory()},
		"no store":            {Address: "127.0.0.1:0"},
		"limit too small":     {Address: "127.0.0.1:0", Store: newMemory(), MaxRequestBytes: 10},
		"limit too great":     {Address: "127.0.0.1:0", Store: newMemory(), MaxRequestBytes: 1 << 30},
		"negative time limit": {Address: "127.0.0.1:0", Store: newMemory(), Limits: Limits{IdleTimeout: -1}},
	} {
		if s, err := Listen(opts); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
