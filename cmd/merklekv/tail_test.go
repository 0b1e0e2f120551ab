package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
	"merklekv/pkg/vector"
)

// change is change seq of instance 0xabc.
func change(seq uint64, e kv.Entry) protocol.DecodedChange {
	e.Version = kv.Version{HLC: hlc.At(1_700_000_000_123), Instance: 0xabc}
	return protocol.DecodedChange{Change: kv.Change{Origin: 0xabc, Seq: seq, Entry: e}}
}

func someChanges() *replication.Batch {
	return &replication.Batch{Instance: 0xabc, First: 1, Changes: []protocol.DecodedChange{
		change(1, kv.Entry{Key: []byte("user:ü"), Value: []byte("a \"b\"\n")}),
		change(2, kv.Entry{Key: []byte("gone"), Flags: kv.Tombstone}),
		change(3, kv.Entry{Key: []byte("long"), Value: bytes.Repeat([]byte{0xff}, 200)}),
		change(4, kv.Entry{Facet: antientropy.MemberFacet("node3"), Value: antientropy.EncodeMember(7, "host:1")}),
		change(5, kv.Entry{Facet: antientropy.MemberFacet("node3"), Flags: kv.Tombstone}),
		change(6, kv.Entry{Facet: []byte(truncationFacet)}),
		{Change: kv.Change{Origin: 0xabc, Seq: 7}, Stub: true},
	}}
}

// tailed returns the lines that a tail shows of messages.
func tailed(t *testing.T, f tailFlags, messages ...*replication.Heard) []string {
	t.Helper()
	var out bytes.Buffer
	tl := &tail{flags: f, out: &out, names: make(map[uint64]string)}
	for _, m := range messages {
		if err := tl.show(m); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestTailLines(t *testing.T) {
	const at = "2023-11-14T22:13:20.123Z "
	want := []string{
		at + `0000000000000abc 1 SET user:%C3%BC "a \"b\"\n"`,
		at + "0000000000000abc 2 DEL gone",
		at + `0000000000000abc 3 SET long "` + strings.Repeat(`\xff`, shownValue) + `"... 200 bytes`,
		at + "0000000000000abc 4 CLUSTER member node3 at host:1",
		at + "0000000000000abc 5 CLUSTER removed mnode3",
		at + "0000000000000abc 6 CLUSTER all keys written before are removed",
		"- 0000000000000abc 7 LARGE (nodes fetch it from each other)",
	}
	got := tailed(t, tailFlags{}, &replication.Heard{Batch: someChanges()})
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, from := range []*replication.Heard{
		{Presence: &replication.Presence{Instance: 0xabc, NodeID: "node1"}},
		{Head: &replication.Head{Instance: 0xabc, NodeID: "node1"}},
	} {
		got := tailed(t, tailFlags{}, from, &replication.Heard{Batch: someChanges()})
		if last := got[len(got)-1]; !strings.HasPrefix(last, "- node1 7") {
			t.Errorf("the name that was told is not shown: %s", last)
		}
	}
	got = tailed(t, tailFlags{keyPrefix: "user:"}, &replication.Heard{Batch: someChanges()})
	if len(got) != 1 || !strings.Contains(got[0], "SET user:") {
		t.Errorf("with a prefix: %q", got)
	}
}

func TestTailHeads(t *testing.T) {
	h := &replication.Head{NodeID: "node1", Instance: 5, Counter: 9, Wall: 1_700_000_000_123, Address: "host:1", Paused: true,
		Last: vector.Mark{Seq: 3}, Epochs: []replication.EpochHead{{Epoch: 17, Root: bytes.Repeat([]byte{0xab}, 32), Count: 4}}}
	const want = "2023-11-14T22:13:20.123Z node1 3 HEAD 9 at host:1 epoch 17 root abababababababab entries 4 paused"
	if got := tailed(t, tailFlags{heads: true}, &replication.Heard{Head: h}); got[0] != want {
		t.Errorf("got %s\nwant %s", got[0], want)
	}
	h.Epochs[0].Root = nil
	if got := tailed(t, tailFlags{heads: true}, &replication.Heard{Head: h}); !strings.Contains(got[0], "root untold") {
		t.Errorf("got %s", got[0])
	}
}

func TestTailJSON(t *testing.T) {
	lines := tailed(t, tailFlags{json: true}, &replication.Heard{Batch: someChanges()})
	var events []event
	for _, line := range lines {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		events = append(events, e)
	}
	if len(events) != 7 || events[0].Value != "a \"b\"\n" || events[0].Op != "SET" || events[1].Op != "DEL" ||
		events[2].Base64 == "" || events[2].Bytes != 200 || events[3].Op != "CLUSTER" || events[6].Op != "LARGE" {
		t.Errorf("got %+v", events)
	}
}

func TestTailEndsWhenNobodyReads(t *testing.T) {
	r, w := io.Pipe()
	_ = r.CloseWithError(io.ErrClosedPipe)
	tl := &tail{out: w, names: make(map[uint64]string)}
	if err := tl.show(&replication.Heard{Batch: someChanges()}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// A real node with its own broker: its writes are shown, verify says that it is
// equal to itself, and one signal ends the tail with 0.
func TestTailAndVerifyOfARealNode(t *testing.T) {
	client, broker := freePort(t), freePort(t)
	environ := []string{"MERKLE_KV_NODE_ID=real", fmt.Sprintf("MERKLE_KV_NETWORK_BIND_PORT=%d", client),
		fmt.Sprintf("MERKLE_KV_ADMIN_BIND_PORT=%d", freePort(t)), "MERKLE_KV_BROKER_ENABLED=true",
		fmt.Sprintf("MERKLE_KV_BROKER_BIND_PORT=%d", broker), "MERKLE_KV_SECURITY_CLUSTER_SECRET=a secret of some length"}
	begin := func(args ...string) (*output, chan os.Signal, chan int) {
		out, ends, code := &output{}, make(chan os.Signal, 2), make(chan int, 1)
		a := &app{stdin: strings.NewReader(""), stdout: out, stderr: out, environ: environ, open: newNode}
		go func() { code <- a.runUntil(context.Background(), args, ends) }()
		return out, ends, code
	}
	log, nodeEnds, nodeCode := begin()
	await(t, "node is healthy", func() bool { code, _, _ := invoke(t, environ, "health"); return code == exitOK })
	shown, tailEnds, tailCode := begin("tail", "--key-prefix", "user:")
	await(t, "tail listens", func() bool { return strings.Contains(shown.String(), "listening at") })
	c, err := dialNode(t.Context(), fmt.Sprintf("127.0.0.1:%d", client))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, request := range []string{"SET other x", "SET user:alice hello world"} {
		if got, err := c.ask(request); got != "OK" || err != nil {
			t.Fatalf("%s: %s, %v", request, got, err)
		}
	}
	await(t, "the write is shown", func() bool { return strings.Contains(shown.String(), ` SET user:alice "hello world"`) })
	if code, stdout, stderr := invoke(t, environ, "verify", "--wait", "1m"); code != exitOK {
		t.Errorf("verify: exit %d: %s%s", code, stdout, stderr)
	}
	tailEnds <- syscall.SIGINT
	if code := <-tailCode; code != exitOK || strings.Contains(shown.String(), "other") || strings.Contains(shown.String(), "not connected") {
		t.Errorf("tail: exit %d: %s", code, shown)
	}
	nodeEnds <- syscall.SIGTERM
	if code := <-nodeCode; code != exitOK {
		t.Errorf("node: exit %d: %s", code, log)
	}
}
