package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRequests(t *testing.T) {
	key, value := []byte("k1"), []byte("a b")
	tests := []struct{ got, want string }{
		{string(textDialect{}.AppendSet(nil, key, value)), "SET k1 a b\r\n"},
		{string(textDialect{}.AppendGet(nil, key)), "GET k1\r\n"},
		{string(respDialect{}.AppendSet(nil, key, value)), "*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$3\r\na b\r\n"},
		{string(respDialect{}.AppendGet(nil, key)), "*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n"},
	}
	for _, tc := range tests {
		if tc.got != tc.want {
			t.Errorf("request %q, want %q", tc.got, tc.want)
		}
	}
}

// Every reply is also given in all its beginnings, which must ask for more.
func TestReplies(t *testing.T) {
	tests := []struct {
		dialect dialect
		in      string
		kind    replyKind
		body    string
	}{
		{textDialect{}, "OK\r\n", replyText, "OK"},
		{textDialect{}, "OK\n", replyText, "OK"},
		{textDialect{}, "\r\n", replyText, ""},
		{textDialect{}, "(null)\r\n", replyNull, ""},
		{textDialect{}, "ERROR: Storage full\r\n", replyError, "ERROR: Storage full"},
		{textDialect{}, "ERRORS are values\r\n", replyText, "ERRORS are values"},
		{respDialect{}, "+OK\r\n", replyText, "OK"},
		{respDialect{}, ":42\r\n", replyText, "42"},
		{respDialect{}, "-ERR no\r\n", replyError, "ERR no"},
		{respDialect{}, "$-1\r\n", replyNull, ""},
		{respDialect{}, "$0\r\n\r\n", replyText, ""},
		{respDialect{}, "$5\r\na\r\nbc\r\n", replyText, "a\r\nbc"},
	}
	for _, tc := range tests {
		r, n, err := tc.dialect.Next([]byte(tc.in + "rest"))
		if err != nil || n != len(tc.in) || r.kind != tc.kind || string(r.body) != tc.body {
			t.Errorf("%T %q: kind %d, body %q, %d bytes, %v", tc.dialect, tc.in, r.kind, r.body, n, err)
		}
		for i := range len(tc.in) {
			if _, n, err := tc.dialect.Next([]byte(tc.in[:i])); n != 0 || err != nil {
				t.Errorf("%T %q: %d bytes taken, %v", tc.dialect, tc.in[:i], n, err)
			}
		}
	}
}

func TestNoReplies(t *testing.T) {
	for _, in := range []string{"OK\r\n", "\r\n", "$x\r\n", "$-2\r\n", "$99999999999\r\n", "$2\r\nabcd", "*1\r\n+OK\r\n"} {
		if r, n, err := (respDialect{}).Next([]byte(in)); !errors.Is(err, errProtocol) {
			t.Errorf("%q is taken for a reply: %+v, %d, %v", in, r, n, err)
		}
	}
}

func TestReplyDoesNotAllocate(t *testing.T) {
	text, resp := []byte(strings.Repeat("v", 64)+"\r\n"), []byte("$64\r\n"+strings.Repeat("v", 64)+"\r\n")
	for _, tc := range []struct {
		dialect dialect
		in      []byte
	}{{textDialect{}, text}, {respDialect{}, resp}} {
		got := testing.AllocsPerRun(100, func() {
			if _, n, _ := tc.dialect.Next(tc.in); n == 0 {
				t.Error("no reply")
			}
		})
		if got != 0 {
			t.Errorf("%T: %v allocations a reply", tc.dialect, got)
		}
	}
}

func TestKeyspace(t *testing.T) {
	ks := newKeyspace("key:", 64)
	if got := string(ks.AppendKey(nil, 1234567)); got != "key:000001234567" {
		t.Errorf("key %q", got)
	}
	values := make(map[string]bool)
	for i := range 1000 {
		v := ks.AppendValue(nil, i)
		if len(v) != 64 {
			t.Fatalf("value %d has %d bytes", i, len(v))
		}
		values[string(v)] = true
		if same, _ := ks.IsValue(v, i, nil); !same {
			t.Errorf("value %d is not recognised", i)
		}
		if same, _ := ks.IsValue(v, i+1, nil); same {
			t.Errorf("value %d is taken for that of %d", i, i+1)
		}
	}
	if len(values) != 1000 {
		t.Errorf("1000 keys have %d values", len(values))
	}
	if n := len(newKeyspace("key:", 1000).AppendValue(nil, 7)); n != 1000 {
		t.Errorf("a value of 1000 bytes has %d", n)
	}
}

func TestMedianAndPercentile(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.values, got, tc.want)
		}
	}
	sorted := make([]time.Duration, 200)
	for i := range sorted {
		sorted[i] = time.Duration(i + 1)
	}
	for _, tc := range []struct {
		p    float64
		want time.Duration
	}{{50, 100}, {99, 198}, {99.9, 200}, {100, 200}, {0.1, 1}} {
		if got := percentile(sorted, tc.p); got != tc.want {
			t.Errorf("p%v is %d, want %d", tc.p, got, tc.want)
		}
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("p50 of nothing is %v", got)
	}
	if got := ratio(1, 0); got != 0 {
		t.Errorf("1/0 is %v", got)
	}
}
