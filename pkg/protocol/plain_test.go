package protocol

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// sliceElements yields replies from a slice.
type sliceElements struct{ replies []Reply }

func (e *sliceElements) Next(r *Reply) bool {
	if len(e.replies) == 0 {
		return false
	}
	*r, e.replies = e.replies[0], e.replies[1:]
	return true
}

// render writes a whole reply with its elements.
func render(d Dialect, c *Command, r Reply) string {
	out := d.Append(nil, c, &r)
	if r.Elements != nil {
		var e Reply
		for r.Elements.Next(&e) {
			out = d.AppendElement(out, c, &r, &e)
		}
		out = d.AppendEnd(out, c, &r)
	}
	return string(out)
}

func TestPlain(t *testing.T) {
	list := func(n int64, cursor []byte, r ...Reply) Reply {
		return Reply{Kind: List, Int: n, Bulk: cursor, Elements: &sliceElements{r}}
	}
	key := func(k string) Reply { return Reply{Kind: Key, Bulk: []byte(k)} }
	tests := []struct {
		command string
		reply   Reply
		want    string
	}{
		{"SET", OK(), "OK\r\n"},
		{"GET", BulkReply([]byte("v w ")), "v w \r\n"},
		{"GET", BulkReply(nil), "\r\n"},
		{"GET", NullReply(), "(null)\r\n"},
		{"GET", BulkReply([]byte("a\nb")), "ERROR: Value not printable\r\n"},
		{"GET", BulkReply([]byte("a\rb")), "ERROR: Value not printable\r\n"},
		{"GET", BulkReply([]byte("a\x00b")), "ERROR: Value not printable\r\n"},
		{"GET", BulkReply([]byte("a\xffb")), "ERROR: Value not printable\r\n"},
		{"DEL", Reply{Kind: Integer, Int: 1, Single: true}, "DELETED\r\n"},
		{"DEL", Reply{Kind: Integer, Single: true}, "NOT_FOUND\r\n"},
		{"DEL", Reply{Kind: Integer, Int: 3}, "DELETED 3\r\n"},
		{"DEL", Reply{Kind: Integer}, "DELETED 0\r\n"},
		{"EXISTS", Reply{Kind: Integer, Int: 1, Single: true}, "1\r\n"},
		{"DBSIZE", IntegerReply(1 << 40), "1099511627776\r\n"},
		{"PING", StatusReply("PONG"), "PONG\r\n"},
		{"PING", Reply{Kind: Status, Text: "PONG", Bulk: []byte("a b")}, "PONG a b\r\n"},
		{"VERSION", StatusReply("1.2.3"), "merklekv 1.2.3\r\n"},
		{"MGET", list(3, nil, BulkReply([]byte("v")), NullReply(), BulkReply([]byte("\n"))),
			"v\r\n(null)\r\nERROR: Value not printable\r\n"},
		{"SCAN", list(2, nil, key("a"), key("b c")), "KEYS 2\r\na\r\nb%20c\r\n"},
		{"SCAN", list(0, []byte("END")), "KEYS 0 END\r\n"},
		{"SCAN", list(1, []byte(">a"), key("a")), "KEYS 1 >a\r\na\r\n"},
		{"INFO", Reply{Kind: Lines, Elements: &sliceElements{[]Reply{{Kind: Line, Bulk: []byte("a:1")}}}}, "a:1\r\nEND\r\n"},
		{"DIFF", Reply{Kind: Lines, Text: "DIFF 1", Elements: &sliceElements{[]Reply{{Kind: Line, Bulk: []byte("key=k")}}}},
			"DIFF 1\r\nkey=k\r\nEND\r\n"},
		{"REPLICATE", Reply{Kind: Lines, Text: "REPLICATION enabled 1 nodes", Elements: &sliceElements{}},
			"REPLICATION enabled 1 nodes\r\nEND\r\n"},
		{"SYNC", Reply{Kind: Status, Text: "OK", Bulk: []byte("repaired=1 ms=2")}, "OK repaired=1 ms=2\r\n"},
		{"CONVERGED", StatusReply("UNKNOWN"), "UNKNOWN\r\n"},
		{"SET", ErrorReply(ErrStorageFull), "ERROR: Storage full\r\n"},
		{"SET", ErrorReply(ReadOnly("disk is full")), "ERROR: Read only: disk is full\r\n"},
		{"GET", ErrorReply(NotReady("copying")), "ERROR: Not ready: copying\r\n"},
	}
	for _, tt := range tests {
		if got := render(Plain{}, Lookup([]byte(tt.command)), tt.reply); got != tt.want {
			t.Errorf("%s %+v: %q, want %q", tt.command, tt.reply, got, tt.want)
		}
	}
}

// An error may answer a request whose command nobody knows.
func TestPlainErrorWithoutCommand(t *testing.T) {
	if got := render(Plain{}, nil, ErrorReply(ErrInvalidCommand)); got != "ERROR: Invalid command\r\n" {
		t.Fatalf("got %q", got)
	}
}

// Whatever a message quotes, it cannot pass for another reply.
func TestPlainErrorIsOneLine(t *testing.T) {
	for message, want := range map[string]string{
		"node_id \"n\" at x\r\nVALUE injected": "node_id \"n\" at x%0D%0AVALUE injected",
		"a\x00\tb\x7f\xff":                     "a%00%09b%7F%FF",
		"grüße 100 % \u0085\u2028":             "grüße 100 % %C2%85%E2%80%A8",
		"long " + strings.Repeat("ü", 300):     "long " + strings.Repeat("ü", 253),
		"long " + strings.Repeat("\n", 300):    "long " + strings.Repeat("%0A", 169),
		strings.Repeat("x", maxMessage) + "yz": strings.Repeat("x", maxMessage),
	} {
		if got := render(Plain{}, nil, Reply{Kind: Failure, Text: message}); got != "ERROR: "+want+"\r\n" {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.SliceOf(rapid.Byte()).Draw(t, "message")
		got := render(Plain{}, nil, Reply{Kind: Failure, Text: string(message)})
		body := strings.TrimSuffix(got, "\r\n")
		if len(body) == len(got) || !utf8.ValidString(body) || strings.ContainsAny(body, "\r\n\x00") ||
			len(body) > len("ERROR: ")+maxMessage {
			t.Fatalf("%q", got)
		}
	})
}
