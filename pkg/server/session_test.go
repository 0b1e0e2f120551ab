package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// newTestSession returns a session on a store, without a server.
func newTestSession(store Store) *session {
	return newSession(&environment{
		store:   store,
		ready:   func() error { return nil },
		version: "1.2.3",
		peers:   true,
		info: func() []Section {
			return []Section{{"node", []Field{{"node_id", "n1"}}}, {"other", []Field{{"a", "b\nc"}}}}
		},
		stats:   func() []Field { return []Field{{"commands_total", "7"}} },
		clients: func() protocol.Elements { return &clientLines{} },
		failed:  func(string, error) {},
		replies: &budget{total: replyBudget},
	}, DefaultMaxRequestBytes)
}

// feed gives the session a piece of input as a driver would, and returns what
// did not fit.
func feed(s *session, input []byte) []byte {
	if len(s.space()) == 0 {
		s.grow()
	}
	n := copy(s.space(), input)
	s.fill(n)
	return input[n:]
}

// talk executes requests and returns all replies and the last status.
func talk(s *session, input string) (string, status) {
	var out []byte
	rest := []byte(input)
	for {
		rest = feed(s, rest)
		st := flushOutput
		for st == flushOutput || st == needCall {
			st = s.advance()
			out = append(out, s.out...)
			s.flushed()
			if st == needCall {
				s.called(s.call(context.Background()))
			}
		}
		if st != needInput || len(rest) == 0 {
			return string(out), st
		}
	}
}

func TestCommands(t *testing.T) {
	long := strings.Repeat("k", kv.MaxKeyLen+1)
	tests := []struct {
		name string
		talk []string // request, its reply, request, its reply ...
	}{
		{"set and get", []string{
			"SET k v", "OK", "GET k", "v", "set k two  words ", "OK", "get k", "two  words ", "GET other", "(null)"}},
		{"empty value", []string{"SET k ", "OK", "GET k", "", "EXISTS k", "1"}},
		{"quotes and JSON", []string{
			`SET k "a b"`, "OK", "GET k", `"a b"`, `SET j {"a": [1, 2]}`, "OK", "GET j", `{"a": [1, 2]}`}},
		{"UTF-8", []string{"SET grüße wörld ☃", "OK", "GET grüße", "wörld ☃"}},
		{"delete", []string{
			"DEL k", "NOT_FOUND", "SET k v", "OK", "DELETE k", "DELETED", "GET k", "(null)",
			"MSET a 1 b 2", "OK", "DEL a b c", "DELETED 2", "DEL a b", "DELETED 0"}},
		{"exists", []string{"MSET a 1 b 2", "OK", "EXISTS a b a c", "3", "EXISTS c", "0"}},
		{"mget", []string{"MSET a 1 b 2", "OK", "MGET a c b", "1\n(null)\n2"}},
		{"append and prepend", []string{
			"APPEND k  b", " b", "APPEND k c ", " bc ", "PREPEND k a", "a bc ", "GET k", "a bc ", "PREPEND new x", "x"}},
		{"ping and echo", []string{
			"PING", "PONG", "PING a b", "PONG a b", "PING ", "PONG", "ECHO  a b ", " a b ", "ECHO ", ""}},
		{"dbsize", []string{"DBSIZE", "0", "MSET a 1 b 2", "OK", "DBSIZE", "2"}},
		{"memory", []string{"SET k abc", "OK", "MEMORY", "100", "MEMORY k", "103", "MEMORY x", "(null)"}},
		{"version", []string{"VERSION", "merklekv 1.2.3"}},
		{"info", []string{
			"INFO", "# node\nnode_id:n1\n# other\na:b%0Ac\nEND", "INFO Node", "# node\nnode_id:n1\nEND", "INFO x", "ERROR: Invalid argument"}},
		{"stats", []string{"STATS", "commands_total:7\nEND"}},
		{"client", []string{"CLIENT list", "END", "CLIENT KILL", "ERROR: Invalid argument"}},
		{"shutdown is off", []string{"SHUTDOWN", "ERROR: Not authorized"}},
		{"missing arguments", []string{
			"SET", "ERROR: Missing arguments", "SET k", "ERROR: Missing arguments", "GET", "ERROR: Missing arguments",
			"DEL", "ERROR: Missing arguments", "EXISTS", "ERROR: Missing arguments", "MGET", "ERROR: Missing arguments",
			"MSET", "ERROR: Missing arguments", "MSET a 1 b", "ERROR: Missing arguments",
			"APPEND k", "ERROR: Missing arguments", "PREPEND k", "ERROR: Missing arguments",
			"ECHO", "ERROR: Missing arguments", "CLIENT", "ERROR: Missing arguments"}},
		{"too many arguments", []string{
			"GET a b", "ERROR: Too many arguments", "DBSIZE x", "ERROR: Too many arguments",
			"MEMORY a b", "ERROR: Too many arguments", "VERSION x", "ERROR: Too many arguments",
			"INFO a b", "ERROR: Too many arguments", "STATS x", "ERROR: Too many arguments",
			"CLIENT LIST x", "ERROR: Too many arguments", "PEER x", "ERROR: Too many arguments",
			"QUIT x", "ERROR: Too many arguments", "SHUTDOWN x", "ERROR: Too many arguments",
			"SCAN a b c d e f", "ERROR: Too many arguments"}},
		{"bad keys", []string{
			"GET " + long, "ERROR: Key too long", "SET " + long + " v", "ERROR: Key too long",
			"MSET a 1 " + long + " 2", "ERROR: Key too long", "EXISTS a", "0",
			"GET \xff", "ERROR: Invalid key", "DEL a b\x01", "ERROR: Invalid key"}},
		{"bad values", []string{
			"SET k \xff", "ERROR: Invalid value", "APPEND k a\x00", "ERROR: Invalid value",
			"ECHO \xc3", "ERROR: Invalid value", "GET k", "(null)"}},
		{"junk", []string{"\x00\x01\x02", "ERROR: Invalid command", "HELO", "ERROR: Invalid command", "PING", "PONG"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestSession(newMemory())
			for i := 0; i < len(tt.talk); i += 2 {
				want := strings.ReplaceAll(tt.talk[i+1], "\n", "\r\n") + "\r\n"
				if got, st := talk(s, tt.talk[i]+"\r\n"); got != want || st != needInput {
					t.Fatalf("%.80q answered %q (status %d), want %q", tt.talk[i], got, st, want)
				}
			}
		})
	}
}

func TestScan(t *testing.T) {
	store := newMemory()
	for _, k := range []string{"a", "b:1", "b:2", "b:3", "b:x y", "c"} {
		store.values[k] = nil
	}
	tests := []struct{ request, want string }{
		{"SCAN", "KEYS 6|a|b:1|b:2|b:3|b:x%20y|c"},
		{"SCAN c", "KEYS 1|c"},
		{"SCAN nothing", "KEYS 0"},
		{"SCAN b: COUNT 2", "KEYS 2 >b:2|b:1|b:2"},
		{"SCAN b: CURSOR 0 COUNT 2", "KEYS 2 >b:2|b:1|b:2"},
		{"SCAN b: CURSOR >b:2 COUNT 2", "KEYS 2 END|b:3|b:x%20y"},
		{"SCAN b: count 1 cursor >b:2", "KEYS 1 >b:3|b:3"},
		{"SCAN b: CURSOR >b:x%20y", "KEYS 0 END"},
		{"SCAN CURSOR >b:x%20y", "KEYS 1 END|c"},
		{"SCAN COUNT 1", "KEYS 1 >a|a"},
		{"SCAN COUNT 4 CURSOR >a", "KEYS 4 >b:x%20y|b:1|b:2|b:3|b:x%20y"},
	}
	for _, bad := range []string{
		"b: COUNT", "COUNT 0", "COUNT -1", "COUNT x", "COUNT 100001", "COUNT 1 COUNT 2", "CURSOR b", "CURSOR >",
		"CURSOR >%4", "CURSOR END", "p LIMIT 3", "CURSOR >" + strings.Repeat("k", 3*kv.MaxKeyLen+1),
		"COUNT 99999999999999999999",
	} {
		tests = append(tests, struct{ request, want string }{"SCAN " + bad, "ERROR: Invalid argument"})
	}
	for _, tt := range tests {
		want := strings.ReplaceAll(tt.want, "|", "\r\n") + "\r\n"
		if got, _ := talk(newTestSession(store), tt.request+"\n"); got != want {
			t.Errorf("%.80q answered %q, want %q", tt.request, got, want)
		}
	}
}

func TestScanByPagesListsAll(t *testing.T) {
	store := newMemory()
	for i := range 100 {
		store.values[fmt.Sprintf("k%% %d\x01", i)] = nil
	}
	s := newTestSession(store)
	all, _ := talk(s, "SCAN\n")
	var paged []string
	for cursor := "0"; cursor != "END"; {
		page, _ := talk(s, "SCAN CURSOR "+cursor+" COUNT 7\n")
		lines := strings.Split(strings.TrimSpace(page), "\r\n")
		cursor = strings.Fields(lines[0])[2]
		paged = append(paged, lines[1:]...)
	}
	if want := strings.Split(strings.TrimSpace(all), "\r\n")[1:]; strings.Join(paged, " ") != strings.Join(want, " ") {
		t.Fatalf("pages list %d keys, the whole %d", len(paged), len(want))
	}
}

func TestStoreErrors(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{kv.ErrInvalidKey, "Invalid key"},
		{fmt.Errorf("set: %w", kv.ErrKeyTooLong), "Key too long"},
		{kv.ErrValueTooLong, "Value too long"},
		{kv.ErrStorageFull, "Storage full"},
		{fmt.Errorf("set: %w", &kv.ReadOnlyError{Why: "clock ahead by 90s"}), "Read only: clock ahead by 90s"},
		{errors.New("secret detail"), "Internal error"},
	}
	for _, tt := range tests {
		store := newMemory()
		store.fail = tt.err
		for _, request := range []string{"SET k v", "DEL k", "APPEND k v", "PREPEND k v", "MSET k v"} {
			s := newTestSession(store)
			if got, _ := talk(s, request+"\n"); got != "ERROR: "+tt.want+"\r\n" {
				t.Errorf("%s with %v answered %q", request, tt.err, got)
			}
			if s.takeTicket() != 0 {
				t.Errorf("%s with %v left a ticket", request, tt.err)
			}
		}
	}
}

func TestInternalErrorIsReported(t *testing.T) {
	store := newMemory()
	store.fail = errors.New("disk on fire")
	s := newTestSession(store)
	var reported string
	s.env.failed = func(command string, err error) { reported = command + ": " + err.Error() }
	talk(s, "SET k v\n")
	if reported != "SET: disk on fire" {
		t.Fatalf("reported %q", reported)
	}
}

func TestNotReady(t *testing.T) {
	s := newTestSession(newMemory())
	asked := 0
	why := errors.New("copying from node2")
	s.env.ready = func() error { asked++; return why }
	got, _ := talk(s, "GET k\nSET k v\nSCAN\nPING\nVERSION\n")
	refusal := "ERROR: Not ready: copying from node2\r\n"
	if want := strings.Repeat(refusal, 3) + "PONG\r\nmerklekv 1.2.3\r\n"; got != want {
		t.Fatalf("got %q", got)
	}
	if asked != 1 {
		t.Errorf("asked %d times for one batch", asked)
	}
	why = nil
	if got, _ := talk(s, "GET k\n"); got != "(null)\r\n" {
		t.Errorf("once ready: %q", got)
	}
}

func TestPipelineTakesTheGreatestTicket(t *testing.T) {
	store := newMemory()
	store.durable = true
	s := newTestSession(store)
	got, _ := talk(s, strings.Repeat("SET k v\r\n", 100)+"GET k\r\n")
	if got != strings.Repeat("OK\r\n", 100)+"v\r\n" {
		t.Fatalf("got %q", got)
	}
	if ticket := s.takeTicket(); ticket != 100 {
		t.Errorf("ticket %d", ticket)
	}
	if ticket := s.takeTicket(); ticket != 0 {
		t.Errorf("ticket %d after it was taken", ticket)
	}
}

func TestFatalErrors(t *testing.T) {
	tests := []struct{ input, want string }{
		{"PING\r\n" + strings.Repeat("x", DefaultMaxRequestBytes+2), "PONG\r\nERROR: Request too long\r\n"},
		{"PING\r\n*1\r\n$4\r\nPING\r\n", "PONG\r\n" + protocol.RESPRefusal},
	}
	for _, tt := range tests {
		s := newTestSession(newMemory())
		got, st := talk(s, tt.input)
		if got != tt.want || st != closeConn || !s.lingers {
			t.Errorf("%.30q answered %q, status %d", tt.input, got, st)
		}
	}
}

func TestQuitIgnoresWhatFollows(t *testing.T) {
	s := newTestSession(newMemory())
	if got, st := talk(s, "QUIT\r\nSET k v\r\n"); got != "OK\r\n" || st != closeConn {
		t.Fatalf("%q, status %d", got, st)
	}
	if s.env.store.Len() != 0 {
		t.Error("a request after QUIT was executed")
	}
}

func TestPeerKeepsTheRest(t *testing.T) {
	s := newTestSession(newMemory())
	if got, st := talk(s, "PING\r\nPEER\r\n\x00\x01rest"); got != "PONG\r\nOK\r\n" || st != upgrade {
		t.Fatalf("%q, status %d", got, st)
	}
	if rest := s.rest(); string(rest) != "\x00\x01rest" {
		t.Errorf("rest %q", rest)
	}
}

func TestReservedConnectionMayOnlyBecomeAPeer(t *testing.T) {
	for _, request := range []string{"GET k\n", "PING\n", "NONSENSE\n", "*1\r\n", "SET\n", "PEER x\n"} {
		s := newTestSession(newMemory())
		s.reserved = true
		if got, st := talk(s, request); got != "ERROR: Too many connections\r\n" || st != closeConn {
			if request != "*1\r\n" || got != protocol.RESPRefusal || st != closeConn {
				t.Errorf("%q answered %q, status %d", request, got, st)
			}
		}
	}
	s := newTestSession(newMemory())
	s.reserved = true
	if got, st := talk(s, "PEER\n"); got != "OK\r\n" || st != upgrade {
		t.Errorf("PEER answered %q, status %d", got, st)
	}
}

// Whatever a reply's size, output stays within the limit and one value.
func TestLongRepliesTakeBoundedMemory(t *testing.T) {
	store := newMemory()
	value := strings.Repeat("v", 100_000)
	store.values["big"] = []byte(value)
	for i := range 50_000 {
		store.values[fmt.Sprintf("key:%06d", i)] = nil
	}
	requests := "MGET" + strings.Repeat(" big", 100) + "\r\nSCAN key:\r\n" + strings.Repeat("GET big\r\n", 20)
	s := newTestSession(store)
	if rest := feed(s, []byte(requests)); len(rest) > 0 {
		t.Fatalf("%d bytes of requests too many for this test", len(rest))
	}
	total, flushes := 0, 0
	for st := flushOutput; st == flushOutput; flushes++ {
		st = s.advance()
		if most := outLimit + len(value) + 2; len(s.out) > most {
			t.Fatalf("%d bytes of output, more than %d", len(s.out), most)
		}
		total += len(s.out)
		s.flushed()
	}
	want := 120*(len(value)+2) + len("KEYS 50000\r\n") + 50_000*len("key:000000\r\n")
	if total != want || flushes < want/(2*(outLimit+len(value))) {
		t.Fatalf("%d bytes in %d flushes, want %d bytes", total, flushes, want)
	}
	if cap(s.scratch) > keptValue || cap(s.out) > keptOutput {
		t.Errorf("keeps %d bytes of scratch and %d of output", cap(s.scratch), cap(s.out))
	}
}

func TestInputBufferGrowsAndShrinks(t *testing.T) {
	s := newTestSession(newMemory())
	if n := len(s.space()); n != firstInput {
		t.Fatalf("starts with %d bytes", n)
	}
	line := "SET k " + strings.Repeat("v", DefaultMaxRequestBytes-6) + "\r\n"
	if got, _ := talk(s, line); got != "OK\r\n" {
		t.Fatalf("a request of the full length answered %q", got)
	}
	if most := DefaultMaxRequestBytes + 2; cap(s.in) > most {
		t.Errorf("the buffer grew to %d bytes, more than %d", cap(s.in), most)
	}
	if s.space(); s.isLarge() {
		t.Errorf("the buffer stays at %d bytes", cap(s.in))
	}
	if got, _ := talk(s, "MEMORY k\r\nPING"); got != fmt.Sprintf("%d\r\n", DefaultMaxRequestBytes-6+100) {
		t.Errorf("afterwards %q", got)
	}
}

func TestTallyCountsByCommand(t *testing.T) {
	s := newTestSession(newMemory())
	talk(s, "SET k v\nGET k\nGET\nNONSENSE\nGET k\n")
	m := newMetrics(nil)
	s.tally.moveTo(m)
	s.tally.moveTo(m)
	for _, tt := range []struct {
		id           protocol.ID
		requests, ko uint64
	}{{protocol.CmdSet, 1, 0}, {protocol.CmdGet, 3, 1}, {protocol.CmdNone, 1, 1}, {protocol.CmdDel, 0, 0}} {
		if n, e := m.requests[tt.id].Load(), m.errors[tt.id].Load(); n != tt.requests || e != tt.ko {
			t.Errorf("%s: %d requests, %d errors", tt.id, n, e)
		}
	}
}

// cycle executes a batch as a driver would, without the socket.
func cycle(s *session, batch []byte) {
	for len(batch) > 0 {
		batch = feed(s, batch)
		s.advance()
		s.takeTicket()
		s.flushed()
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	s := newTestSession(newMemory())
	talk(s, "SET user:1 "+strings.Repeat("v", 64)+"\r\n")
	batch := bytes.Repeat([]byte("GET user:1\r\nGET nobody\r\nMGET user:1 nobody\r\nEXISTS user:1\r\nPING\r\n"), 8)
	cycle(s, batch)
	if n := testing.AllocsPerRun(200, func() { cycle(s, batch) }); n != 0 {
		t.Fatalf("%v allocations a batch", n)
	}
}

// nullStore takes everything and keeps one value, so that a benchmark sees the
// session alone.
type nullStore struct {
	*memory
	value []byte
}

func (n *nullStore) Get(dst, _ []byte) ([]byte, bool) { return append(dst, n.value...), true }

func (n *nullStore) Set(_, _ []byte) (journal.Ticket, error) { return 1, nil }

func benchmarkSession(b *testing.B, request string, pipeline int) {
	s := newTestSession(&nullStore{newMemory(), bytes.Repeat([]byte("v"), 64)})
	batch := bytes.Repeat([]byte(request), pipeline)
	b.ReportAllocs()
	for b.Loop() {
		cycle(s, batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*pipeline), "ns/request")
}

func BenchmarkSession(b *testing.B) {
	for _, pipeline := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("GET/%d", pipeline), func(b *testing.B) {
			benchmarkSession(b, "GET key:000000000001\r\n", pipeline)
		})
		b.Run(fmt.Sprintf("SET/%d", pipeline), func(b *testing.B) {
			benchmarkSession(b, "SET key:000000000001 "+strings.Repeat("v", 64)+"\r\n", pipeline)
		})
	}
}
