package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"merklekv/pkg/config"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/replication"
	"merklekv/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output collects what is written by several goroutines.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// invoke runs a command line to its end.
func invoke(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs output
	code = run(context.Background(), args, strings.NewReader(""), &out, &errs, environ)
	return code, out.String(), errs.String()
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// await waits for a condition; nothing else may be done before it holds.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not in time: " + what)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--bind-prt", "1"}, "did you mean --bind-port?"},
		{[]string{"serve", "--lgo-level", "info"}, "did you mean --log-level?"},
		{[]string{"--bind-port", "many"}, "--bind-port"},
		{[]string{"-x"}, "unknown shorthand flag"},
		{[]string{"srve"}, "serve"},
		{[]string{"serve", "extra"}, "extra"},
		{[]string{"config"}, "check or print"},
		{[]string{"config", "chekc"}, "chekc"},
		{[]string{"version", "--bind-port", "1"}, "unknown flag"},
	} {
		code, stdout, stderr := invoke(t, nil, tc.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tc.want) || !strings.Contains(stderr, "merklekv --help") {
			t.Errorf("%q: exit %d, %q, %q", tc.args, code, stdout, stderr)
		}
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	code, stdout, _ := invoke(t, nil, "--help")
	for _, want := range []string{"serve", "broker", "config", "health", "version", "--node-id", "--config"} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, no %s in\n%s", code, want, stdout)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	good := writeFile(t, "node_id = \"n\"\nmqtt.broker_address = \"b\"\nnetwork.reply_style = \"plain\"\n")
	code, stdout, stderr := invoke(t, nil, "config", "check", "--config", good)
	if code != exitOK || stdout != "configuration is valid\n" || !strings.Contains(stderr, "network.reply_style") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	bad := writeFile(t, "node_id = \"n\"\nbind_port = 1\n[network]\nbind_port = 0\n")
	code, stdout, stderr = invoke(t, []string{"MERKLE_KV_NODE=x"}, "config", "check", "--config", bad)
	for _, want := range []string{bad + ":2: bind_port", bad + ":4: network.bind_port", "MERKLE_KV_NODE_ID?", "mqtt.broker_address: is required"} {
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, %q, no %q in %q", code, stdout, want, stderr)
		}
	}
}

func TestConfigPrintMasksSecrets(t *testing.T) {
	environ := []string{"MERKLE_KV_MQTT_USERNAME=u", "MERKLE_KV_MQTT_PASSWORD=open-sesame",
		"MERKLE_KV_BROKER_USERS=a:open-sesame", "MERKLE_KV_SECURITY_CLUSTER_SECRET=open-sesame"}
	code, stdout, stderr := invoke(t, environ, "config", "print", "--node-id", "n", "--broker-address", "b")
	if code != exitOK || strings.Contains(stdout+stderr, "sesame") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	for _, want := range []string{"****", "# env MERKLE_KV_MQTT_PASSWORD", "# flag --node-id", "# default"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := invoke(t, []string{"MERKLE_KV_WRONG=1"}, "version")
	lines := strings.Split(stdout, "\n")
	if code != exitOK || !strings.HasPrefix(lines[0], "merklekv ") || !strings.HasPrefix(lines[1], "commit ") ||
		!strings.HasPrefix(lines[2], "date ") || !strings.HasPrefix(lines[3], "go go1.") {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

// fakeNode is a runner that does what a test says.
type fakeNode struct {
	logger *slog.Logger
	run    func(ctx context.Context) error

	mu      sync.Mutex
	reloads []config.Config
}

func (f *fakeNode) Run(ctx context.Context) error { return f.run(ctx) }

func (f *fakeNode) Reload(c config.Config, _ []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reloads = append(f.reloads, c)
}

// reloaded returns how often Reload was called.
func (f *fakeNode) reloaded() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.reloads)
}

// serving is a serve command at work.
type serving struct {
	node    *fakeNode
	ends    chan os.Signal
	hangups chan os.Signal
	stderr  *output
	code    chan int
}

// startServe runs serve with a node that is up when startServe returns.
func startServe(t *testing.T, runNode func(context.Context) error, args ...string) *serving {
	t.Helper()
	up := make(chan struct{})
	s := &serving{node: &fakeNode{}, stderr: &output{}, code: make(chan int, 1),
		ends: make(chan os.Signal, 2), hangups: make(chan os.Signal, 1)}
	s.node.run = func(ctx context.Context) error { close(up); return runNode(ctx) }
	a := &app{stdin: strings.NewReader(""), stdout: s.stderr, stderr: s.stderr, signals: s.hangups,
		open: func(_ context.Context, _ config.Config, logger *slog.Logger) (runner, error) {
			s.node.logger = logger
			return s.node, nil
		}}
	go func() { s.code <- a.runUntil(context.Background(), args, s.ends) }()
	select {
	case <-up:
	case code := <-s.code:
		t.Fatalf("exit %d: %s", code, s.stderr)
	}
	return s
}

func untilDone(ctx context.Context) error { <-ctx.Done(); return nil }

func TestSignalStopsCleanly(t *testing.T) {
	for _, args := range [][]string{nil, {"serve"}} {
		s := startServe(t, untilDone, args...)
		s.ends <- syscall.SIGTERM
		if code := <-s.code; code != exitOK {
			t.Errorf("%q: exit %d: %s", args, code, s.stderr)
		}
	}
}

func TestSecondSignalForces(t *testing.T) {
	stuck := make(chan struct{})
	ended := make(chan struct{})
	s := startServe(t, func(context.Context) error { defer close(ended); <-stuck; return nil })
	s.ends <- syscall.SIGINT
	s.ends <- syscall.SIGINT
	if code := <-s.code; code != exitForced || !strings.Contains(s.stderr.String(), "not waiting") {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
	close(stuck)
	<-ended
}

func TestNodeThatFailsIsAFailure(t *testing.T) {
	s := startServe(t, func(context.Context) error { return os.ErrDeadlineExceeded })
	if code := <-s.code; code != exitFailure || !strings.Contains(s.stderr.String(), os.ErrDeadlineExceeded.Error()) {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
}

func TestHangupReloadsConfigurationAndReopensTheLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "node.log")
	text := "node_id = \"n\"\nmqtt.broker_address = \"b\"\nlogging.file_path = \"" + log + "\"\n"
	file := writeFile(t, text)
	s := startServe(t, untilDone, "--config", file)
	if err := os.Rename(log, log+".away"); err != nil {
		t.Fatal(err)
	}
	changed := text + "logging.level = \"debug\"\nnetwork.bind_port = 1000\n"
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hangups <- syscall.SIGHUP
	await(t, "reload", func() bool { return s.node.reloaded() > 0 })
	await(t, "records", func() bool {
		data, _ := os.ReadFile(log) // not there yet is not enough
		return bytes.Contains(data, []byte("next start only"))
	})
	s.node.logger.Debug("now visible")
	s.ends <- syscall.SIGTERM
	if code := <-s.code; code != exitOK {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"now visible", "network.bind_port", `"component":"main"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{os.ErrNotExist, exitFailure},
		{&usageError{os.ErrNotExist}, exitUsage},
		{fmt.Errorf("x: %w", &config.Error{}), exitUsage},
		{fmt.Errorf("x: %w", replication.ErrDuplicateNodeID), exitDuplicate},
		{fmt.Errorf("x: %w", &volume.WrongNodeError{}), exitUsage},
		{fmt.Errorf("x: %w", volume.ErrNotVolume), exitUsage},
		{fmt.Errorf("x: %w", disk.ErrFailed), exitDisk},
		{fmt.Errorf("x: %w", &disk.DamageError{File: "y", Err: io.ErrUnexpectedEOF}), exitDamaged},
		{fmt.Errorf("x: %w", volume.ErrInUse), exitFailure},
		{fmt.Errorf("x: %w", volume.ErrNewerFormat), exitFailure},
		{fmt.Errorf("x: %w", volume.ErrDamaged), exitDamaged},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

// Whatever the check lets through, a node starts with.
func TestCheckRefusesABrokerThatNoNodeCanUse(t *testing.T) {
	for _, scheme := range []string{"ws", "wss", "tcps", "mqtt+ssl", "http"} {
		environ := []string{"MERKLE_KV_NODE_ID=n", "MERKLE_KV_MQTT_BROKER_ADDRESS=" + scheme + "://b:1"}
		code, _, stderr := invoke(t, environ, "config", "check")
		if code != exitUsage || !strings.Contains(stderr, "none of tcp, mqtt, ssl, tls, mqtts") {
			t.Errorf("%s: exit %d, %s", scheme, code, stderr)
		}
	}
}

func TestNoticesAreLogged(t *testing.T) {
	s := startServe(t, untilDone, "--data-dir", "d")
	s.ends <- syscall.SIGTERM
	<-s.code
	first, _, _ := strings.Cut(s.stderr.String(), "\n")
	var record map[string]any
	if err := json.Unmarshal([]byte(first), &record); err != nil {
		t.Fatalf("%v in %q", err, first)
	}
	if record["level"] != "WARN" || !strings.Contains(record["msg"].(string), "storage.data_dir") {
		t.Errorf("got %v", record)
	}
}

// A real node with its own broker: up, healthy, answering, and gone after one
// signal.
func TestServeRunsARealNode(t *testing.T) {
	client := freePort(t)
	environ := []string{"MERKLE_KV_NODE_ID=real",
		fmt.Sprintf("MERKLE_KV_NETWORK_BIND_PORT=%d", client), fmt.Sprintf("MERKLE_KV_ADMIN_BIND_PORT=%d", freePort(t)),
		"MERKLE_KV_BROKER_ENABLED=true", fmt.Sprintf("MERKLE_KV_BROKER_BIND_PORT=%d", freePort(t))}
	stderr, code, ends := &output{}, make(chan int, 1), make(chan os.Signal, 2)
	a := &app{stdin: strings.NewReader(""), stdout: stderr, stderr: stderr, environ: environ, open: newNode}
	go func() { code <- a.runUntil(context.Background(), nil, ends) }()
	await(t, "node is healthy", func() bool {
		code, _, _ := invoke(t, environ, "health")
		return code == exitOK
	})
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", client))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "SET k a b\r\nGET k\r\nQUIT\r\n")
	if got, err := io.ReadAll(conn); err != nil || string(got) != "OK\r\na b\r\nOK\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
	ends <- syscall.SIGTERM
	if got := <-code; got != exitOK {
		t.Errorf("exit %d: %s", got, stderr)
	}
}
