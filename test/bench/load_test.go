package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// dialects are what every test of a load runs with.
var dialects = map[string]dialect{"text": textDialect{}, "resp": respDialect{}}

func TestLoadSendsAndChecksExactly(t *testing.T) {
	for name, d := range dialects {
		t.Run(name, func(t *testing.T) {
			_, resp := d.(respDialect)
			f := &fakeServer{resp: resp}
			l := load{
				addr: f.start(t), dialect: d, op: opSet, conns: 3, pipeline: 7, keys: 1000,
				space: newKeyspace("key:", 64), sequential: true, requests: 1000,
			}
			result, err := runLoad(t.Context(), l)
			if err != nil || result.requests != 1000 {
				t.Fatalf("%+v, %v", result, err)
			}
			if sets, keys := f.counts(); sets != 1000 || keys != 1000 {
				t.Errorf("%d writes of %d keys, want 1000 of 1000", sets, keys)
			}
			c, err := dialClient(l.addr, d)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if n, err := c.size(); n != 1000 || err != nil {
				t.Errorf("DBSIZE: %d, %v", n, err)
			}
			l.op, l.sequential, l.requests, l.pipeline = opGet, false, 5000, 64
			if result, err = runLoad(t.Context(), l); err != nil || result.requests != 5000 {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestLoadEndsByTime(t *testing.T) {
	f := &fakeServer{}
	result, err := runLoad(t.Context(), load{
		addr: f.start(t), dialect: textDialect{}, op: opSet, conns: 2, pipeline: 16, keys: 100,
		space: newKeyspace("key:", 64), duration: time.Millisecond,
	})
	if err != nil || result.requests == 0 || result.elapsed < time.Millisecond {
		t.Errorf("%+v, %v", result, err)
	}
	if sets, _ := f.counts(); sets != result.requests {
		t.Errorf("%d writes arrived, %d are counted", sets, result.requests)
	}
}

func TestLoadFailsOnWrongReply(t *testing.T) {
	for name, d := range dialects {
		_, resp := d.(respDialect)
		l := load{dialect: d, op: opGet, conns: 1, pipeline: 4, keys: 10, space: newKeyspace("key:", 64), requests: 100}
		for what, mangle := range map[string]func(_, _, v string) string{
			"missing": nil,
			"other":   func(_, _, v string) string { return strings.ToUpper(v) },
			"longer":  func(_, _, v string) string { return v + "+" },
			"empty":   func(_, _, v string) string { return "" },
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				f := &fakeServer{resp: resp, mangle: mangle}
				l := l
				l.addr = f.start(t)
				if mangle != nil {
					fill := l
					fill.op, fill.sequential, fill.requests = opSet, true, 10
					if _, err := runLoad(t.Context(), fill); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := runLoad(t.Context(), l); !errors.Is(err, errUnexpectedReply) {
					t.Errorf("wrong values pass: %v", err)
				}
			})
		}
	}
}

func TestLoadRefusesOtherMachines(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:7878", "[::1]:7878", "localhost:7878", ""} {
		_, err := runLoad(t.Context(), load{addr: addr, dialect: textDialect{}, conns: 1, pipeline: 1, keys: 1, requests: 1})
		if err == nil {
			t.Errorf("load on %q is not refused", addr)
		}
	}
}

func TestLatencySeesEveryWrite(t *testing.T) {
	f := &fakeServer{}
	s := &server{addr: f.start(t)}
	const n = 300
	seen, err := measureLatency(t.Context(), &cluster{nodes: []*server{s, s, s}}, newKeyspace("lat:", 64), n, 10_000)
	if err != nil || len(seen) != n {
		t.Fatalf("%d of %d writes seen, %v", len(seen), n, err)
	}
	for i, d := range seen {
		if d <= 0 {
			t.Errorf("write %d was seen %v after it was sent", i, d)
		}
	}
}

func TestSustainWritesAndDumps(t *testing.T) {
	f, other := &fakeServer{}, &fakeServer{}
	addr, otherAddr := f.start(t), other.start(t)
	var out bytes.Buffer
	b := &bench{options: options{total: 30_000, sustain: 100 * time.Millisecond, keys: 500, valueSize: 64}, out: &out}
	writes, _, err := b.writeAll(t.Context(), []string{addr, addr, addr})
	if sets, _ := f.counts(); err != nil || writes != 3000 || sets != 3000 {
		t.Fatalf("%d writes sent, %d arrived, %v", writes, sets, err)
	}
	if err := b.checkDumps([]string{addr, addr}); err != nil {
		t.Errorf("equal dumps: %v", err)
	}
	if err := b.checkDumps([]string{addr, otherAddr}); !errors.Is(err, errDiffer) {
		t.Errorf("different dumps pass: %v\n%s", err, &out)
	}
	data := f.snapshot()
	data["sus:000000000001"] = "another value"
	other.become(data)
	if err := b.checkDumps([]string{addr, otherAddr}); !errors.Is(err, errDiffer) {
		t.Errorf("dumps with one other value pass: %v\n%s", err, &out)
	}
}

func TestSpreadNeedsEveryNode(t *testing.T) {
	f := &fakeServer{}
	addr := f.start(t)
	if _, err := spread(t.Context(), []string{addr, addr}, "x"); err != nil {
		t.Errorf("one store seen as two nodes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	apart := &fakeServer{}
	if _, err := spread(ctx, []string{addr, apart.start(t)}, "y"); !errors.Is(err, context.Canceled) {
		t.Errorf("markers between two stores that share nothing: %v", err)
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		args  string
		names string // joined, empty: refused
	}{
		{"redis", "redis"},
		{"all", "redis memory index durable start disk latency sustain"},
		{"--runs 3 memory redis", "memory redis"},
		{"", "redis memory index durable start disk latency sustain"},
		{"nonsense", ""},
		{"redis nonsense", ""},
		{"--conns 0 redis", ""},
		{"--value-size 15 redis", ""},
		{"--pipeline 0 redis", ""},
		{"--pipeline 2000 redis", ""},
		{"--duration 0s redis", ""},
		{"--sustain -1s redis", ""},
		{"--no-such-flag redis", ""},
	}
	for _, tc := range tests {
		_, names, err := parseOptions(strings.Fields(tc.args), io.Discard)
		if got := strings.Join(names, " "); tc.names != "" && (err != nil || got != tc.names) {
			t.Errorf("%q: %q, %v", tc.args, got, err)
		}
		if tc.names == "" && err == nil {
			t.Errorf("%q is not refused", tc.args)
		}
	}
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"nonsense"}, &out, &errOut); code != exitUsage || !strings.Contains(errOut.String(), "nonsense") {
		t.Errorf("exit %d, %s", code, &errOut)
	}
	if code := run(t.Context(), []string{"--help"}, &out, &errOut); code != exitOK {
		t.Errorf("--help exits with %d", code)
	}
}

func TestSettingsHideTheCallersOwn(t *testing.T) {
	t.Setenv("MERKLE_KV_NODE_ID", "the caller's")
	var found []string
	for _, v := range (settings{"network.bind_port": "1"}).environ() {
		if strings.HasPrefix(v, "MERKLE_KV_") {
			found = append(found, v)
		}
	}
	if len(found) != 1 || found[0] != "MERKLE_KV_NETWORK_BIND_PORT=1" {
		t.Errorf("%q", found)
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel([]byte("processor\t: 0\nmodel name\t: Some CPU: fast\n")); got != "Some CPU: fast" {
		t.Errorf("%q", got)
	}
	if got := cpuModel(nil); got != "unknown processor" {
		t.Errorf("%q", got)
	}
}
