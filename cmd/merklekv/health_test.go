package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// adminServer answers /readyz and returns the flags that lead to it.
func adminServer(t *testing.T, status int, body string) (flags []string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--admin-port", port}
}

func TestHealthOfANode(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be asked
	code, stdout, stderr := invoke(t, nil, append([]string{"health"}, adminServer(t, 200, "ok\n")...)...)
	if code != exitOK || stdout != "healthy\n" || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = invoke(t, nil, append([]string{"health"}, adminServer(t, 503, "first pull is not done\n")...)...)
	if code != exitFailure || stdout != "" || !strings.Contains(stderr, "503") || !strings.Contains(stderr, "first pull") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestHealthAsksWhereTheConfigurationSays(t *testing.T) {
	flags := adminServer(t, 200, "ok")
	for name, environ := range map[string][]string{
		"open to all": {"MERKLE_KV_ADMIN_BIND_ADDRESS=0.0.0.0", "MERKLE_KV_ADMIN_BIND_PORT=" + flags[1]},
		"no broker":   {"MERKLE_KV_MQTT_TOPIC_PREFIX=p", "MERKLE_KV_ADMIN_BIND_PORT=" + flags[1]},
	} {
		if code, _, stderr := invoke(t, environ, "health"); code != exitOK {
			t.Errorf("%s: exit %d, %q", name, code, stderr)
		}
	}
	if code, _, stderr := invoke(t, nil, "health", "--url", "http://127.0.0.1:"+flags[1]+"/readyz"); code != exitOK {
		t.Errorf("--url: exit %d, %q", code, stderr)
	}
	if code, _, _ := invoke(t, nil, "health", "--url", "::"); code != exitUsage {
		t.Errorf("a URL that is none: exit %d", code)
	}
}

func TestHealthWithoutAnAnswer(t *testing.T) {
	port := strconv.Itoa(freePort(t))
	for _, args := range [][]string{
		{"health", "--admin-port", port},
		{"health", "--broker"},
	} {
		code, _, stderr := invoke(t, []string{"MERKLE_KV_BROKER_BIND_PORT=" + port}, args...)
		if code != exitFailure || !strings.Contains(stderr, "no answer") {
			t.Errorf("%q: exit %d, %q", args, code, stderr)
		}
	}
}

func TestHealthOfWhatIsNoBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "220 mail\r\n")
		_ = conn.Close()
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	port := ln.Addr().(*net.TCPAddr).Port
	code, _, stderr := invoke(t, []string{fmt.Sprintf("MERKLE_KV_BROKER_BIND_PORT=%d", port)}, "health", "--broker")
	if code != exitFailure || !strings.Contains(stderr, "does not speak MQTT") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// freePort returns a port that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// The broker command runs a real broker, whose health can be asked with users
// and without.
func TestBrokerCommand(t *testing.T) {
	for _, users := range []string{"", "u:p"} {
		environ := []string{fmt.Sprintf("MERKLE_KV_BROKER_BIND_PORT=%d", freePort(t)), "MERKLE_KV_BROKER_USERS=" + users}
		s := &serving{stderr: &output{}, code: make(chan int, 1)}
		s.ends = make(chan os.Signal, 2)
		a := &app{stdin: strings.NewReader(""), stdout: s.stderr, stderr: s.stderr, environ: environ}
		go func() { s.code <- a.runUntil(context.Background(), []string{"broker"}, s.ends) }()
		await(t, "broker is healthy", func() bool {
			code, _, _ := invoke(t, environ, "health", "--broker")
			return code == exitOK
		})
		s.ends <- syscall.SIGTERM
		if code := <-s.code; code != exitOK {
			t.Errorf("users %q: exit %d: %s", users, code, s.stderr)
		}
		if log := s.stderr.String(); strings.Contains(log, "refused") {
			t.Errorf("users %q: being asked how it is fills the broker's log: %s", users, log)
		}
	}
}

func TestBrokerAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	code, _, stderr := invoke(t, []string{fmt.Sprintf("MERKLE_KV_BROKER_BIND_PORT=%d", port)}, "broker")
	if code != exitFailure || !strings.Contains(stderr, "address already in use") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
