package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

var rootA, rootB = strings.Repeat("a", 64), strings.Repeat("b", 64)

func saysConverged(verdict, root string) map[string]string {
	return map[string]string{"CONVERGED": verdict + "\r\n", "HASH": root + "\r\n"}
}

func TestVerify(t *testing.T) {
	equal := saysConverged("EQUAL 100 "+rootA, rootA)
	for name, tc := range map[string]struct {
		nodes []map[string]string
		code  int
		want  []string
	}{
		"one that is equal":   {[]map[string]string{equal}, exitOK, []string{rootA, "EQUAL", "epoch 100", "EQUAL: all members"}},
		"three that are":      {[]map[string]string{equal, equal, equal}, exitOK, []string{"(asked 3)"}},
		"at different epochs": {[]map[string]string{equal, saysConverged("EQUAL 101 "+rootB, rootA)}, exitOK, nil},
		"one that differs": {[]map[string]string{equal, saysConverged("DIFFERENT n2 n3", rootB)}, exitDifferent,
			[]string{"DIFFERENT", "differs from n2, n3", rootB}},
		"unheard": {[]map[string]string{saysConverged("UNKNOWN unheard n3", rootA)}, exitUnknown,
			[]string{"UNKNOWN  unheard: no fresh word of n3\n"}},
		"settling": {[]map[string]string{saysConverged("UNKNOWN settling", rootA)}, exitUnknown,
			[]string{"settling: the last writes are too new, or on their way\n"}},
		"a reason of another version": {[]map[string]string{saysConverged("UNKNOWN tired x", rootA)}, exitUnknown,
			[]string{"UNKNOWN  tired: x\n"}},
		"different beats unknown": {[]map[string]string{saysConverged("UNKNOWN settling", rootA), saysConverged("DIFFERENT x", rootA)},
			exitDifferent, nil},
		"two clusters": {[]map[string]string{equal, saysConverged("EQUAL 100 "+rootB, rootB)}, exitDifferent,
			[]string{"in different clusters"}},
		"moving":                   {[]map[string]string{equal, saysConverged("EQUAL 101 "+rootB, rootB)}, exitUnknown, []string{"ask again"}},
		"not a word that is known": {[]map[string]string{saysConverged("PERHAPS", rootA)}, exitUnknown, []string{"another version"}},
		"equal without a root":     {[]map[string]string{saysConverged("EQUAL", rootA)}, exitUnknown, []string{"without epoch"}},
		"an error":                 {[]map[string]string{{}}, exitUnknown, []string{"answers: Invalid command"}},
		"an empty line":            {[]map[string]string{saysConverged("", rootA)}, exitUnknown, []string{"another version"}},
		"half an answer":           {[]map[string]string{{"CONVERGED": ""}}, exitUnknown, []string{"half an answer"}},
		"a line without end": {[]map[string]string{{"CONVERGED": strings.Repeat("x", maxAnswerLine+1)}}, exitUnknown,
			[]string{"a line of more than"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"verify"}
			for _, script := range tc.nodes {
				args = append(args, "--node", textNode(t, script))
			}
			code, stdout, stderr := invoke(t, nil, args...)
			if code != tc.code || stderr != "" {
				t.Errorf("exit %d, want %d: %s%s", code, tc.code, stdout, stderr)
			}
			if n := strings.Count(stdout, "\n"); n != len(tc.nodes)+1 {
				t.Errorf("%d lines: %s", n, stdout)
			}
			for _, want := range tc.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in %s", want, stdout)
				}
			}
		})
	}
}

func TestVerifyPassesTheVersionOn(t *testing.T) {
	const v = "019aad5d2c080000-9f86d081884c7d65"
	addr := textNode(t, map[string]string{"CONVERGED " + v: "EQUAL 1 " + rootA + "\r\n", "HASH": rootB + "\r\n"})
	if code, stdout, _ := invoke(t, nil, "verify", "--node", addr, "--version", v); code != exitOK {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

// Without --node it is the node of the configuration.
func TestVerifyAsksTheOwnNode(t *testing.T) {
	addr := textNode(t, saysConverged("EQUAL 1 "+rootA, rootA))
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := invoke(t, []string{"MERKLE_KV_NETWORK_BIND_PORT=" + port}, "verify"); code != exitOK {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

func TestVerifyWithNobodyThere(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	code, stdout, _ := invoke(t, nil, "verify", "--node", addr)
	if code != exitUnknown || !strings.Contains(stdout, "no node answers at "+addr) {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

// --wait asks until the nodes are equal, and tells on the way what they lack.
func TestVerifyWaits(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			verdict := "UNKNOWN settling"
			if asked.Add(1) > 3 {
				verdict = "EQUAL 7 " + rootA
			}
			answer(conn, saysConverged(verdict, rootA))
			conn.Close()
		}
	}()
	defer func() { ln.Close(); <-done }()
	code, stdout, stderr := invoke(t, nil, "verify", "--node", ln.Addr().String(), "--wait", "1m")
	if code != exitOK || asked.Load() != 4 || strings.Count(stderr, "waiting: unknown") != 1 {
		t.Errorf("exit %d after %d times: %s%s", code, asked.Load(), stdout, stderr)
	}
	addr := textNode(t, saysConverged("UNKNOWN unheard n9", rootA))
	if code, stdout, _ := invoke(t, nil, "verify", "--node", addr, "--wait", "50ms"); code != exitUnknown || !strings.Contains(stdout, "n9") {
		t.Errorf("exit %d when the time is over: %s", code, stdout)
	}
}

func TestVerifyEndsAtASignal(t *testing.T) {
	addr := textNode(t, saysConverged("UNKNOWN settling", rootA))
	ends, out, code := make(chan os.Signal, 2), &output{}, make(chan int, 1)
	a := &app{stdin: strings.NewReader(""), stdout: out, stderr: out}
	go func() { code <- a.runUntil(t.Context(), []string{"verify", "--node", addr, "--wait", "10h"}, ends) }()
	await(t, "it waits", func() bool { return strings.Contains(out.String(), "waiting") })
	ends <- syscall.SIGINT
	if got := <-code; got != exitUnknown {
		t.Errorf("exit %d: %s", got, out)
	}
}

const differences = "DIFF 4\r\n" +
	"key=user:b%20ob facet= here=019aad5d2c080000-9f86d081884c7d65 there=\r\n" +
	"key=k facet=f here=019aad5d2c080000-9f86d081884c7d65 there=019aad5d2c080001-9f86d081884c7d65\r\n" +
	"key= facet=mnode3 here=019aad5d2c080001-9f86d081884c7d65 there=019aad5d2c080000-9f86d081884c7d65\r\nEND\r\n"

func TestDiff(t *testing.T) {
	for name, tc := range map[string]struct {
		reply string
		code  int
		want  []string
	}{
		"none": {"DIFF 0\r\nEND\r\n", exitOK, []string{"no differences between"}},
		"one":  {"DIFF 1\r\nkey=k facet= here= there=\r\nEND\r\n", exitDifferent, []string{"\n1 difference between"}},
		"some": {differences, exitDifferent, []string{
			"user:b%20ob  here 2025-11-22T20:59:15.848Z by 9f86d081884c7d65 (019aad5d2c080000-9f86d081884c7d65)  there nothing  here is newer\n",
			"k facet f  here", "there is newer\n", "(of the cluster) facet mnode3  here", "3 of 4 differences"}},
		"refused":    {"ERROR: Sync failed: no\r\n", exitUnknown, []string{"answers: Sync failed: no"}},
		"not there":  {"ERROR: Connection failed\r\n", exitUnknown, []string{"it cannot reach other:7878"}},
		"nonsense":   {"DIFF many\r\nEND\r\n", exitUnknown, []string{"another version"}},
		"breaks off": {"", exitUnknown, []string{"half an answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			addr := textNode(t, map[string]string{"DIFF other 7878 5": tc.reply})
			code, stdout, stderr := invoke(t, nil, "diff", "--node", addr, "--with", "other", "--limit", "5")
			if code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("no %q in %s%s", want, stdout, stderr)
				}
			}
		})
	}
}

func TestSync(t *testing.T) {
	const ok = "OK repaired=3 compared=1000 bytes=4711 rounds=3 ms=12\r\n"
	for name, tc := range map[string]struct {
		args    []string
		request string
		reply   string
		code    int
		want    string
	}{
		"repairs": {nil, "SYNC ::1 9", ok, exitOK, "compared 1000 keys and repaired 3 entries, with 4711 bytes in 3 round trips, in 12 ms"},
		"all":     {[]string{"--full"}, "SYNC ::1 9 --full", ok, exitOK, "repaired 3"},
		"one": {nil, "SYNC ::1 9", "OK repaired=1 compared=1 bytes=1 rounds=1 ms=0\r\n", exitOK,
			"compared 1 key and repaired 1 entry, with 1 byte in 1 round trip, in 0 ms"},
		"equal":     {[]string{"--verify"}, "SYNC ::1 9 --verify", "EQUAL\r\n", exitOK, "are equal"},
		"different": {[]string{"--verify"}, "SYNC ::1 9 --verify", "DIFFERENT 7\r\n", exitDifferent, "differ in 7 entries"},
		"refused":   {nil, "SYNC ::1 9", "ERROR: Sync failed: why\r\n", exitUnknown, "Sync failed: why"},
		"nobody":    {nil, "SYNC ::1 9", "ERROR: Connection failed\r\n", exitUnknown, "cannot reach [::1]:9"},
		"nonsense":  {nil, "SYNC ::1 9", "WELL\r\n", exitUnknown, "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := textNode(t, map[string]string{tc.request: tc.reply})
			code, stdout, stderr := invoke(t, nil, append([]string{"sync", "--node", addr, "--with", "[::1]:9"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stdout+stderr, tc.want) {
				t.Errorf("exit %d, want %d: %s%s", code, tc.code, stdout, stderr)
			}
		})
	}
}

func TestComparingNeedsNodes(t *testing.T) {
	for _, args := range [][]string{
		{"diff"}, {"diff", "--node", "a"}, {"sync", "--with", "b"}, {"diff", "--node", "a b", "--with", "c"},
		{"diff", "--node", "a", "--with", "c:0"}, {"diff", "--node", "a", "--with", "b", "--limit", "0"},
		{"diff", "--node", "a", "--with", "b", "--limit", "10001"}, {"sync", "--node", "a", "--with", "b", "--full", "--verify"},
		{"verify", "--node", ":1"}, {"verify", "--version", "1"}, {"verify", "x"},
	} {
		if code, _, stderr := invoke(t, nil, args...); code != exitUsage || !strings.Contains(stderr, "--help") {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
}
