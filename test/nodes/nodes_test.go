package nodes

import (
	"bufio"
	"maps"
	"net"
	"strings"
	"testing"
	"time"
)

const line = "n=2 at=2026-11-22T23:19:03.299987176Z peer=node2 why=gap mode=repair outcome=equal epoch=1795389542 " +
	"compared=101006 differing=1188 pulled=86 pushed=1102 moot=0 deferred=0 bytes_in=6454 bytes_out=50510 " +
	"link_in=7478 link_out=51389 round_trips=3 ms=6.407"

func TestParseSession(t *testing.T) {
	got, err := ParseSession(line)
	if err != nil {
		t.Fatal(err)
	}
	want := Session{
		Number: 2, At: time.Date(2026, 11, 22, 23, 19, 3, 299987176, time.UTC), Peer: "node2", Why: "gap", Outcome: "equal",
		Compared: 101006, Differing: 1188, Pulled: 86, Pushed: 1102, BytesIn: 6454, BytesOut: 50510,
		LinkIn: 7478, LinkOut: 51389, RoundTrips: 3, Millis: 6.407,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.Moved() != 1188 || got.Bytes() != 58867 || got.Served() {
		t.Errorf("moved %d, %d bytes, served %v; want 1188, 58867, false", got.Moved(), got.Bytes(), got.Served())
	}
}

func TestParseSessionTakesNothingForGranted(t *testing.T) {
	if _, err := ParseSession(line + " new=1"); err != nil {
		t.Errorf("a word more: %v", err)
	}
	for _, word := range strings.Fields(line) {
		name, _, _ := strings.Cut(word, "=")
		switch name {
		case "mode", "epoch", "moot", "deferred":
			continue // not asked for
		}
		if _, err := ParseSession(strings.Replace(line, word, "", 1)); err == nil {
			t.Errorf("no error without %s", word)
		}
		if name == "peer" || name == "why" || name == "outcome" {
			continue
		}
		for _, bad := range []string{"", "-1", "x"} {
			if bad == "-1" && name == "ms" {
				continue
			}
			if _, err := ParseSession(strings.Replace(line, word, name+"="+bad, 1)); err == nil {
				t.Errorf("no error for %s=%s", name, bad)
			}
		}
	}
}

func TestParseVerdict(t *testing.T) {
	root := strings.Repeat("0f", 32)
	for text, want := range map[string]Verdict{
		"EQUAL 1795389542 " + root: {Equal: true, Epoch: 1795389542, Root: root},
		"UNKNOWN unheard node1":    {},
		"DIFFERENT node1 node3":    {},
		"UNKNOWN settling":         {},
	} {
		want.Line = text
		if got, err := ParseVerdict(text); err != nil || got != want {
			t.Errorf("%q: %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "EQUAL", "EQUAL x " + root, "EQUAL 1 0f", "equal 1 " + root, "ERROR: Not authorized"} {
		if got, err := ParseVerdict(text); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

// scripted is a node that answers each request by what the script has for it.
func scripted(t *testing.T, script map[string]string) Node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serve(conn, script)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return Node{Name: "scripted", Address: listener.Addr().String()}
}

func serve(conn net.Conn, script map[string]string) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		answer, found := script[in.Text()]
		if !found {
			return
		}
		if _, err := conn.Write([]byte(strings.ReplaceAll(answer, "\n", "\r\n") + "\r\n")); err != nil {
			return
		}
	}
}

func TestDumpGoesThroughAllPages(t *testing.T) {
	n := scripted(t, map[string]string{
		"SCAN CURSOR 0 COUNT 5000":  "KEYS 2 >b\na\nb",
		"SCAN CURSOR >b COUNT 5000": "KEYS 1 END\nc",
		"GET a":                     "1", "GET b": " two ", "GET c": "",
	})
	got, err := n.Dump()
	if want := map[string]string{"a": "1", "b": " two ", "c": ""}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%q (%v), want %q", got, err, want)
	}
}

func TestWhatANodeSaysWrongIsAnError(t *testing.T) {
	for _, answer := range []string{"ERROR: Storage full", "KEYS x END", "KEYS -1 END", "KEYS 5001 END", "KEYS 1"} {
		n := scripted(t, map[string]string{"SCAN CURSOR 0 COUNT 5000": answer, "SYNCS": "ERROR: Not authorized", "SET a 1": answer})
		if keys, err := n.Keys(); err == nil {
			t.Errorf("%q: %q, want an error", answer, keys)
		}
		if err := n.Write("OK", "SET a 1"); err == nil || !strings.Contains(err.Error(), answer) {
			t.Errorf("a write that was answered %q: %v", answer, err)
		}
		if _, err := n.Sessions(); err == nil || !strings.Contains(err.Error(), "Not authorized") {
			t.Errorf("SYNCS that was refused: %v", err)
		}
	}
}

func TestReportEndsAtItsEnd(t *testing.T) {
	n := scripted(t, map[string]string{"SYNCS": line + "\n" + line + "\nEND", "CONVERGED": "UNKNOWN settling"})
	if sessions, err := n.Sessions(); err != nil || len(sessions) != 2 {
		t.Errorf("%d sessions (%v), want 2", len(sessions), err)
	}
	if v, err := n.Converged(); err != nil || v.Equal || v.Line != "UNKNOWN settling" {
		t.Errorf("%+v (%v)", v, err)
	}
	cut := scripted(t, map[string]string{"SYNCS": line})
	done := make(chan error, 1)
	go func() {
		c, err := cut.Dial()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		_, err = c.DoAll("SYNCS", "no such request")
		done <- err
	}()
	if err := <-done; err == nil {
		t.Error("no error where the connection ended before the reply")
	}
}
