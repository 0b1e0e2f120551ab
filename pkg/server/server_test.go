package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	c := dial(t, startServer(t, Options{}))
	c.send("SET k v\nGET k\nGET unfinished")
	c.Conn.(*net.TCPConn).CloseWrite()
	if got := c.expectEnd(); got != "OK\r\nv\r\n" {
		t.Fatalf("got %q", got)
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
	for range 4 * cap(s.large) {
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

func TestClientList(t *testing.T) {
	s := startServer(t, Options{})
	first, second := dial(t, s), dial(t, s)
	first.ask("SET k v", "OK")
	want := regexp.MustCompile(`^id=1 addr=` + regexp.QuoteMeta(first.LocalAddr().String()) +
		` age=\d+ idle=\d+ in=9 out=4 cmd=set state=idle
id=2 addr=` + regexp.QuoteMeta(second.LocalAddr().String()) +
		` age=\d+ idle=\d+ in=\d+ out=\d+ cmd=\w+ state=executing
END$`)
	poll.Until(t, patience, func() bool {
		second.send("CLIENT LIST\r\n")
		got := second.line() + "\n" + second.line() + "\n" + second.line()
		return want.MatchString(got)
	}, "the list to show both connections as they are")
}

func TestInfoAndStats(t *testing.T) {
	s := startServer(t, Options{Info: func() []Section {
		return []Section{{"replication", []Field{{"lag_ms", "3"}}}}
	}})
	c := dial(t, s)
	c.ask("SET k v", "OK")
	report := func(request string) map[string]string {
		c.send(request + "\r\n")
		fields := map[string]string{}
		for line := c.line(); line != "END"; line = c.line() {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = value
		}
		return fields
	}
	info := report("INFO")
	if info["version"] != "1.2.3" || info["keys"] != "1" || info["lag_ms"] != "3" || info["connected_clients"] != "1" {
		t.Errorf("INFO: %v", info)
	}
	if part := report("INFO replication"); len(part) != 1 {
		t.Errorf("INFO replication: %v", part)
	}
	if stats := report("STATS"); stats["commands_set"] != "1" || stats["commands_info"] != "2" || stats["commands_total"] != "3" {
		t.Errorf("STATS: %v", stats)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	s := startServer(t, Options{Registerer: registry})
	c := dial(t, s)
	c.send("SET k v\r\nGET k\r\nGET k\r\nGET\r\n")
	for range 4 {
		c.line()
	}
	c.ask("PING", "PONG") // the batch before is accounted for
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if f.GetHelp() == "" || !strings.HasPrefix(f.GetName(), "merklekv_") {
			t.Errorf("metric %s, help %q", f.GetName(), f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"merklekv_commands_total get":          3,
		"merklekv_commands_total set":          1,
		"merklekv_command_errors_total get":    1,
		"merklekv_connections client":          1,
		"merklekv_connections peer":            0,
		"merklekv_connections_accepted_total":  1,
		"merklekv_client_received_bytes_total": 34,
		"merklekv_connections_timed_out_total": 0,
		"merklekv_connections_refused_total":   0,
	} {
		if values[name] != want {
			t.Errorf("%s is %v, want %v", name, values[name], want)
		}
	}
}
