package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server until the test ends and returns its base URL.
func serve(t *testing.T, opts Options) string {
	t.Helper()
	opts.Address = "127.0.0.1:0"
	s, err := Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-result; err != nil {
			t.Errorf("Serve after Close: %v", err)
		}
	})
	return "http://" + s.Addr().String()
}

// request sends one request over a connection of its own.
func request(t *testing.T, method, url string) (int, http.Header, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func TestReadiness(t *testing.T) {
	well := Check{Name: "store", OK: true}
	away := Check{Name: "broker", OK: true, Degraded: true, Detail: "dial tcp:\nrefused"}
	failed := Check{Name: "first pull", Degraded: true, Detail: "no peer answered yet"}
	tests := []struct {
		name    string
		checks  []Check
		status  int
		short   string
		verbose string
	}{
		{"no checks", nil, 200, "ok\n", "ok\n"},
		{"all well", []Check{well}, 200, "ok\n", "[+]store ok\nok\n"},
		{"degraded", []Check{well, away}, 200,
			"[!]broker degraded: dial tcp: refused\nok\n",
			"[+]store ok\n[!]broker degraded: dial tcp: refused\nok\n"},
		{"failed", []Check{failed, well}, 503,
			"[-]first pull failed: no peer answered yet\nnot ready\n",
			"[-]first pull failed: no peer answered yet\n[+]store ok\nnot ready\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			base := serve(t, Options{Ready: func() []Check { return tc.checks }})
			for path, want := range map[string]string{"/readyz": tc.short, "/readyz?verbose": tc.verbose} {
				status, _, body := request(t, "GET", base+path)
				if status != tc.status || body != want {
					t.Errorf("GET %s: %d %q, want %d %q", path, status, body, tc.status, want)
				}
			}
		})
	}
}

func TestPaths(t *testing.T) {
	plain := serve(t, Options{})
	profiled := serve(t, Options{Pprof: true})
	const list = "there are /livez /readyz /readyz?verbose /metrics /api/syncs?n= /api/peers /api/epochs /api/members /api/backups"
	tests := []struct {
		method, url string
		status      int
		body        string // contained
	}{
		{"GET", plain + "/livez", 200, "ok\n"},
		{"HEAD", plain + "/livez", 200, ""},
		{"GET", plain + "/readyz", 200, "ok\n"},
		{"GET", plain + "/metrics", 200, ""},
		{"GET", plain + "/", 404, list},
		{"GET", plain + "/livez/more", 404, `nothing at "/livez/more"; ` + list},
		{"GET", plain + "/debug/pprof/", 404, list},
		{"POST", plain + "/livez", 405, "only GET and HEAD"},
		{"DELETE", plain + "/nowhere", 405, "only GET and HEAD"},
		{"GET", profiled + "/debug/pprof/", 200, "goroutine"},
		{"GET", profiled + "/debug/pprof/cmdline", 200, ""},
		{"GET", profiled + "/nowhere", 404, list + " /debug/pprof/"},
	}
	for _, tc := range tests {
		status, header, body := request(t, tc.method, tc.url)
		if status != tc.status || !strings.Contains(body, tc.body) {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.url, status, body, tc.status, tc.body)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: reply may be guessed at: %v", tc.method, tc.url, header)
		}
		if status == 405 && header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow is %q", tc.method, tc.url, header.Get("Allow"))
		}
	}
}

func TestMetricsOfAllHealthyCollectors(t *testing.T) {
	reg := prometheus.NewRegistry()
	keys := prometheus.NewGauge(prometheus.GaugeOpts{Name: "merklekv_keys", Help: "Keys."})
	keys.Set(42)
	reg.MustRegister(keys, brokenCollector{})
	status, header, body := request(t, "GET", serve(t, Options{Gatherer: reg})+"/metrics")
	if status != 200 || !strings.Contains(body, "merklekv_keys 42") {
		t.Errorf("a broken collector hides the others: %d %q", status, body)
	}
	if kind := header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=") {
		t.Errorf("Content-Type %q names no version of the format", kind)
	}
}

// brokenCollector fails at every scrape.
type brokenCollector struct{}

var errBroken = errors.New("broken")

func (brokenCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("broken", "Never there.", nil, nil)
}

func (c brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "Never there.", nil, nil), errBroken)
}

func TestAddressInUse(t *testing.T) {
	first, err := Listen(Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = Listen(Options{Address: first.Addr().String()})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener on %v: %v", first.Addr(), err)
	}
}

func TestCloseBeforeServe(t *testing.T) {
	s, err := Listen(Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if err := s.Serve(context.Background()); err != nil {
		t.Errorf("Serve of a closed server: %v", err)
	}
	if _, err := net.Dial("tcp", s.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("port still answers after Close: %v", err)
	}
}

func TestServeTwice(t *testing.T) {
	s, err := Listen(Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Serve(ctx) }()
	request(t, "GET", "http://"+s.Addr().String()+"/livez")
	if err := s.Serve(ctx); err == nil {
		t.Error("a second Serve is not refused")
	}
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Serve after its context ended: %v", err)
	}
	s.Close()
}

// A request in flight ends before Close returns: it is finished when it can be,
// and cut when it cannot.
func TestCloseWaitsForRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var finished bool // written by the handler, read after Close
	s, err := Listen(Options{Address: "127.0.0.1:0", Ready: func() []Check {
		close(entered)
		<-release
		finished = true
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- s.Serve(context.Background()) }()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	closed := make(chan struct{})
	go func() { defer close(closed); s.Close() }()
	if _, err := conn.Read(make([]byte, 1)); err == nil { // returns when the grace is over
		t.Error("the connection was answered instead of cut")
	}
	select {
	case <-closed:
		t.Error("Close returned while a request was being answered")
	default:
	}
	close(release)
	<-closed
	if !finished {
		t.Error("Close returned before the handler")
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestHeaderTooLong(t *testing.T) {
	base := serve(t, Options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 2*maxHeaderBytes))
	status, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(status, "431") {
		t.Errorf("a header of %d bytes: %q, %v", 2*maxHeaderBytes, status, err)
	}
}

func TestMetricsDoc(t *testing.T) {
	reg := prometheus.NewRegistry()
	ops := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "merklekv_operations_total", Help: "Commands run,\nby name | result.",
	}, []string{"command"})
	ops.WithLabelValues("GET").Inc()
	reg.MustRegister(ops, prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_like", Help: "x"}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	doc := []byte("intro\n" + tableBegin + "\n" + tableHead +
		"| `go_*` | | | runtime |\n| `merklekv_seldom` | counter | | kept |\n" + tableEnd + "\nend `merklekv_operations_total`\n")
	if got := UndocumentedMetrics(doc, families); len(got) != 1 || got[0] != "merklekv_operations_total" {
		t.Fatalf("undocumented: %q", got)
	}
	doc, err = UpdateMetricsDoc(doc, families)
	if err != nil {
		t.Fatal(err)
	}
	if got := UndocumentedMetrics(doc, families); len(got) != 0 {
		t.Errorf("undocumented after the update: %q", got)
	}
	const want = "intro\n" + tableBegin + "\n" + tableHead + "| `go_*` | | | runtime |\n" +
		"| `merklekv_operations_total` | counter | `command` | Commands run, by name \\| result. |\n" +
		"| `merklekv_seldom` | counter | | kept |\n" + tableEnd + "\nend `merklekv_operations_total`\n"
	if string(doc) != want {
		t.Errorf("updated document:\n%s\nwant:\n%s", doc, want)
	}
	for _, bad := range []string{"", tableBegin, tableEnd + tableBegin} {
		if _, err := UpdateMetricsDoc([]byte(bad), families); !errors.Is(err, ErrNoTable) {
			t.Errorf("document %q: %v", bad, err)
		}
	}
}

func TestRealDocumentHasATable(t *testing.T) {
	doc, err := os.ReadFile("METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	again, err := UpdateMetricsDoc(doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(doc) {
		t.Errorf("METRICS.md is not as it would be generated:\n%s", again)
	}
}
