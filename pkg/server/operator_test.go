package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// operations is a Repair and a Cluster for tests.
type operations struct {
	err     error                           // what the blocking calls return
	block   func(ctx context.Context) error // if not nil, comes first in them
	verdict protocol.Verdict
	diff    Differences
	paused  bool
	members []string
	asked   []string // what was called, with its arguments
}

func (o *operations) begin(ctx context.Context, format string, args ...any) error {
	o.asked = append(o.asked, fmt.Sprintf(format, args...))
	if o.block != nil {
		return o.block(ctx)
	}
	return o.err
}

func (o *operations) Hash(ctx context.Context, prefix []byte) (h [32]byte, err error) {
	if prefix != nil {
		h[31] = 0xab
	}
	return h, o.begin(ctx, "hash %q", prefix)
}

func (o *operations) Sync(ctx context.Context, r SyncRequest) (SyncReport, error) {
	err := o.begin(ctx, "sync %s %s %t %t", r.Host, r.Port, r.Full, r.Verify)
	return SyncReport{Repaired: 2, Compared: 30, Bytes: 400, Rounds: 3, Elapsed: 5 * time.Millisecond, Different: o.diff.Total}, err
}

func (o *operations) Diff(ctx context.Context, host, port string, limit int) (Differences, error) {
	return o.diff, o.begin(ctx, "diff %s %s %d", host, port, limit)
}

func (o *operations) Converged(ctx context.Context, v kv.Version) (protocol.Verdict, error) {
	return o.verdict, o.begin(ctx, "converged %v", v)
}

func (o *operations) Sessions(n int) []Record {
	o.asked = append(o.asked, fmt.Sprintf("sessions %d", n))
	return []Record{{{"peer", "n 2"}, {"why", "roots"}, {"keys", ""}}, {{"peer", "n3"}}}[:min(n, 2)]
}

func (o *operations) Peers() []Record { return []Record{{{"node_id", "n2"}, {"live", "true"}}} }

func (o *operations) Replicating() (bool, int) { return !o.paused, 2 }

func (o *operations) SetReplicating(enabled bool) { o.paused = !enabled }

func (o *operations) Forget(nodeID string) (bool, journal.Ticket, error) {
	known := slices.Contains(o.members, nodeID)
	return known, 7, o.err
}

func operatorSession(o *operations) *session {
	s := newTestSession(newMemory())
	s.env.repair, s.env.cluster = o, o
	return s
}

// expect executes requests, each followed by its reply.
func expect(t *testing.T, s *session, exchanges ...string) {
	t.Helper()
	for i := 0; i < len(exchanges); i += 2 {
		want := strings.ReplaceAll(exchanges[i+1], "\n", "\r\n") + "\r\n"
		if got, st := talk(s, exchanges[i]+"\r\n"); got != want || st != needInput {
			t.Fatalf("%.80q answered %q (status %d), want %q", exchanges[i], got, st, want)
		}
	}
}

func TestOperatorCommands(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	version := kv.Version{HLC: hlc.At(1_000), Instance: 5}
	tests := []struct {
		name string
		ops  operations
		talk []string
		want []string // what was asked
	}{
		{"hash", operations{}, []string{"HASH", zeros, "hash user:", zeros[2:] + "ab"}, []string{`hash ""`, `hash "user:"`}},
		{"sync", operations{}, []string{
			"SYNC n2 7878", "OK repaired=2 compared=30 bytes=400 rounds=3 ms=5",
			"SYNC n2 7878 --FULL", "OK repaired=2 compared=30 bytes=400 rounds=3 ms=5",
			"SYNC n2 7878 --verify", "EQUAL", "SYNC n2 7878 --verify --full", "EQUAL",
		}, []string{"sync n2 7878 false false", "sync n2 7878 true false", "sync n2 7878 false true", "sync n2 7878 true true"}},
		{"sync finds differences", operations{diff: Differences{Total: 9}}, []string{"SYNC ::1 1 --verify", "DIFFERENT 9"},
			[]string{"sync ::1 1 false true"}},
		{"diff", operations{diff: Differences{Total: 12, Listed: []Difference{
			{Key: []byte("k"), Here: version}, {Key: nil, Facet: []byte("m n"), There: version}, {Key: []byte("x")},
		}}}, []string{"DIFF n2 7878 2", "DIFF 12\n" +
			"key=k facet= here=0000000003e80000-0000000000000005 there=\n" +
			"key= facet=m%20n here= there=0000000003e80000-0000000000000005\nEND"}, []string{"diff n2 7878 2"}},
		{"diff of equals", operations{}, []string{"DIFF n2 7878", "DIFF 0\nEND"}, []string{"diff n2 7878 1000"}},
		{"equal", operations{verdict: protocol.Verdict{Equality: protocol.Equal, Epoch: 77}},
			[]string{"CONVERGED", "EQUAL 77 " + zeros, "CONVERGED " + version.String(), "EQUAL 77 " + zeros},
			[]string{"converged " + kv.Version{}.String(), "converged " + version.String()}},
		{"different", operations{verdict: protocol.Verdict{Equality: protocol.Different, Peers: []string{"n2", "n 3"}}},
			[]string{"CONVERGED", "DIFFERENT n2 n%203"}, []string{"converged " + kv.Version{}.String()}},
		{"unknown", operations{verdict: protocol.Verdict{Reason: "unheard", Peers: []string{"n2"}}},
			[]string{"CONVERGED", "UNKNOWN unheard n2"}, []string{"converged " + kv.Version{}.String()}},
		{"unknown for nobody's sake", operations{verdict: protocol.Verdict{Reason: "settling"}},
			[]string{"CONVERGED", "UNKNOWN settling"}, []string{"converged " + kv.Version{}.String()}},
		{"syncs", operations{}, []string{
			"SYNCS", "peer=n%202 why=roots keys=\npeer=n3\nEND", "SYNCS 1", "peer=n%202 why=roots keys=\nEND",
		}, []string{"sessions 100", "sessions 1"}},
		{"peers", operations{}, []string{"PEERS", "node_id=n2 live=true\nEND"}, nil},
		{"replicate", operations{}, []string{
			"REPLICATE status", "REPLICATION enabled 2 nodes\nnode_id=n2 live=true\nEND", "REPLICATE disable", "OK",
			"REPLICATE STATUS", "REPLICATION disabled 2 nodes\nnode_id=n2 live=true\nEND",
			"REPLICATE enable", "OK", "REPLICATE status", "REPLICATION enabled 2 nodes\nnode_id=n2 live=true\nEND",
		}, nil},
		{"forget", operations{members: []string{"n2"}}, []string{"FORGET n2", "OK", "FORGET n3", "NOT_FOUND"}, nil},
		{"truncate", operations{}, []string{
			"MSET a 1 b 2", "OK", "TRUNCATE", "OK", "DBSIZE", "0", "SET a 1", "OK", "flushdb", "OK", "GET a", "(null)",
		}, nil},
		{"debug", operations{}, []string{"DEBUG KEY k", "(null)", "SET k value", "OK", "DEBUG key k", "# facet\n" +
			"version:0000000000010002-0000000000000003\ninstance:0000000000000003\nwritten:1970-01-01T00:00:00.001Z\n" +
			"epoch:0\nflags:none\nexpires:never\nvalue_bytes:5\ntag:7c6c4c280724cb41d3b250f9ce72d390\nvisible:true\nEND"}, nil},
		{"missing arguments", operations{}, []string{
			"SYNC", "ERROR: Missing arguments", "SYNC n2", "ERROR: Missing arguments", "DIFF n2", "ERROR: Missing arguments",
			"REPLICATE", "ERROR: Missing arguments", "FORGET", "ERROR: Missing arguments", "DEBUG", "ERROR: Missing arguments",
			"DEBUG KEY", "ERROR: Missing arguments",
		}, nil},
		{"too many arguments", operations{}, []string{
			"HASH a b", "ERROR: Too many arguments", "SYNC a 1 --full --verify x", "ERROR: Too many arguments",
			"CONVERGED a b", "ERROR: Too many arguments", "DIFF a 1 2 3", "ERROR: Too many arguments",
			"SYNCS 1 2", "ERROR: Too many arguments", "PEERS x", "ERROR: Too many arguments",
			"REPLICATE enable x", "ERROR: Too many arguments", "FORGET a b", "ERROR: Too many arguments",
			"TRUNCATE x", "ERROR: Too many arguments", "DEBUG KEY a b", "ERROR: Too many arguments",
		}, nil},
		{"bad arguments", operations{}, []string{
			"SYNC n2 0", "ERROR: Invalid argument", "SYNC n2 65536", "ERROR: Invalid argument", "SYNC n2 http", "ERROR: Invalid argument",
			"SYNC n2 1 --fast", "ERROR: Invalid argument", "SYNC n2 1 --full --full", "ERROR: Invalid argument",
			"DIFF n2 -1", "ERROR: Invalid argument", "DIFF n2 1 0", "ERROR: Invalid argument", "DIFF n2 1 10001", "ERROR: Invalid argument",
			"CONVERGED 12", "ERROR: Invalid argument", "SYNCS 0", "ERROR: Invalid argument", "SYNCS 101", "ERROR: Invalid argument",
			"REPLICATE off", "ERROR: Invalid argument", "DEBUG VALUE k", "ERROR: Invalid argument",
			"DEBUG KEY \x01", "ERROR: Invalid key", "HASH \xff", "ERROR: Invalid value",
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, operatorSession(&tt.ops), tt.talk...)
			if !slices.Equal(tt.ops.asked, tt.want) {
				t.Errorf("asked %q, want %q", tt.ops.asked, tt.want)
			}
		})
	}
}

func TestOperatorErrorsAreTold(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("dial n2: %w", protocol.ErrConnectionFailed), "ERROR: Connection failed"},
		{protocol.SyncFailed("hash id is x here and y there"), "ERROR: Sync failed: hash id is x here and y there"},
		{errors.New("of this node's own"), "ERROR: Internal error"},
	} {
		s := operatorSession(&operations{err: tt.err, members: []string{"n2"}})
		for _, request := range []string{"HASH", "SYNC n2 7878", "SYNC n2 7878 --verify", "DIFF n2 7878", "CONVERGED", "FORGET n2"} {
			expect(t, s, request, tt.want, "PING", "PONG")
		}
		if s.tally.errors[protocol.CmdSync] != 2 || s.tally.requests[protocol.CmdSync] != 2 {
			t.Errorf("%v: SYNC counted %d errors", tt.err, s.tally.errors[protocol.CmdSync])
		}
	}
	readOnly := operatorSession(&operations{err: &kv.ReadOnlyError{Why: "clock"}})
	expect(t, readOnly, "FORGET n2", "ERROR: Read only: clock")
	expect(t, newTestSession(&memory{fail: &kv.ReadOnlyError{Why: "clock"}}), "TRUNCATE", "ERROR: Read only: clock")
}

func TestOperatorCommandsNeedTheirPart(t *testing.T) {
	s := newTestSession(newMemory())
	for _, request := range []string{
		"HASH", "SYNC n2 7878", "DIFF n2 7878", "CONVERGED", "SYNCS", "PEERS", "REPLICATE status", "FORGET n2",
	} {
		expect(t, s, request, "ERROR: Not authorized")
	}
}

// An operator can look at a node that does not serve data yet.
func TestOperatorCommandsBeforeReady(t *testing.T) {
	s := operatorSession(&operations{members: []string{"n2"}})
	s.env.ready = func() error { return errors.New("no copy yet") }
	for _, request := range []string{"HASH", "CONVERGED", "PEERS", "SYNCS", "REPLICATE status", "SYNC n2 1", "DIFF n2 1"} {
		if got, _ := talk(s, request+"\r\n"); strings.HasPrefix(got, "ERROR") {
			t.Errorf("%s answered %q", request, got)
		}
	}
	for _, request := range []string{"FLUSHDB", "FORGET n2", "DEBUG KEY k"} {
		expect(t, s, request, "ERROR: Not ready: no copy yet")
	}
}

// The answer to a call is large too: it waits for room before it is asked for.
func TestDiffWaitsForRoom(t *testing.T) {
	o := &operations{}
	s := operatorSession(o)
	other := exhaust(s.env.replies)
	feed(s, []byte("PING\r\nDIFF n2 7878\r\nPING\r\n"))
	if st := s.advance(); st != needRoom || len(o.asked) != 0 {
		t.Fatalf("status %d, asked %q", st, o.asked)
	}
	s.takeNeed()
	s.env.replies.release(other)
	if st := s.advance(); st != needCall {
		t.Fatalf("status %d with room", st)
	}
	s.flushed()
	if s.env.replies.used == 0 {
		t.Error("the call holds no room")
	}
	s.called(s.call(context.Background()))
	if st := s.advance(); st != needInput || string(s.out) != "DIFF 0\r\nEND\r\nPONG\r\n" {
		t.Fatalf("status %d, output %q", st, s.out)
	}
	s.flushed()
	if s.env.replies.used != 0 {
		t.Errorf("keeps %d bytes", s.env.replies.used)
	}
}

// blocking serves operations whose calls wait for a token of release, or for
// their end.
func blocking(t *testing.T, limits Limits) (s *Server, release chan error, ended chan error) {
	release, ended = make(chan error), make(chan error, 1)
	o := &operations{block: func(ctx context.Context) error {
		select {
		case err := <-release:
			return err
		case <-ctx.Done():
			ended <- ctx.Err()
			return ctx.Err()
		}
	}}
	return startServer(t, Options{Repair: o, Cluster: o, Limits: limits}), release, ended
}

func TestCallsKeepTheOrderOfAnswers(t *testing.T) {
	s, release, _ := blocking(t, Limits{})
	c := dial(t, s)
	c.send("SET k v\r\nSYNC n2 7878\r\nGET k\r\nCONVERGED\r\nGET k\r\nGE")
	if got := c.line(); got != "OK" { // is not held back by what comes after
		t.Fatalf("SET answered %q", got)
	}
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseCalling })
	c.send("T other\r\n") // comes while the call runs
	release <- nil
	for _, want := range []string{"OK repaired=2 compared=30 bytes=400 rounds=3 ms=5", "v"} {
		if got := c.line(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	release <- nil
	for _, want := range []string{"UNKNOWN", "v", "(null)"} {
		if got := c.line(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// While a call runs a client may send more than its buffer takes; it all arrives.
func TestCallsReadAheadWithinTheBuffer(t *testing.T) {
	s, release, _ := blocking(t, Limits{})
	c := dial(t, s)
	c.send("HASH\r\n")
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseCalling })
	value := strings.Repeat("v", 100<<10)
	c.send("SET k " + value + "\r\n")
	release <- nil
	c.line()
	if got := c.line(); got != "OK" {
		t.Fatalf("SET answered %q", got)
	}
	c.ask("GET k", value)
}

func TestCallsOutliveTheConnectionTimeout(t *testing.T) {
	s, release, _ := blocking(t, Limits{ConnectionTimeout: time.Millisecond, IdleTimeout: time.Millisecond})
	c := dial(t, s)
	c.send("HASH\r\n")
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseCalling })
	conn := s.snapshot()[0]
	if now := s.now() + time.Hour; conn.overdue(now, s.limits.Load()) || conn.stalled(now, 0, true, true) {
		t.Error("a call is overdue")
	}
	if err := s.SetLimits(Limits{}); err != nil {
		t.Fatal(err)
	}
	release <- nil
	if got := c.line(); len(got) != 64 {
		t.Fatalf("got %q", got)
	}
}

// A client that has sent all it will send still gets its answers.
func TestCallsAnswerAClientThatHalfCloses(t *testing.T) {
	s, release, _ := blocking(t, Limits{})
	c := dial(t, s)
	c.send("HASH\r\nPING\r\n")
	c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseCalling })
	release <- nil
	if got := c.expectEnd(); got != strings.Repeat("0", 64)+"\r\nPONG\r\n" {
		t.Fatalf("got %q", got)
	}
}

func TestABrokenConnectionEndsItsCall(t *testing.T) {
	s, _, ended := blocking(t, Limits{})
	c := dial(t, s)
	c.send("SYNC n2 7878\r\n")
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseCalling })
	c.Conn.(interface{ SetLinger(int) error }).SetLinger(0) // Close sends a reset
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	poll.Until(t, patience, func() bool { return s.Stats().Clients == 0 })
}

func TestCloseEndsCalls(t *testing.T) {
	s, _, ended := blocking(t, Limits{})
	c := dial(t, s)
	c.send("CONVERGED\r\nPING\r\n")
	poll.Until(t, patience, func() bool { return phaseOf(s, 1) == phaseCalling })
	go s.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c.r); err != nil || string(got) != "ERROR: Interrupted\r\n" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// How long other nodes take is no part of this node's latency.
func TestCallsAreNoLatency(t *testing.T) {
	s := startServer(t, Options{})
	c := newConn(s, nil, 1, false)
	for i, want := range []time.Duration{time.Microsecond, 4 * time.Microsecond} {
		c.session.tally.count(protocol.CmdSync, false)
		if i == 0 {
			c.away = time.Hour
			c.account(time.Hour + time.Microsecond)
		} else {
			c.account(3 * time.Microsecond)
		}
		if sum := time.Duration(s.metrics.latency.sum.Load()); sum != want {
			t.Errorf("after account %d: %v of latency, want %v", i, sum, want)
		}
	}
}
