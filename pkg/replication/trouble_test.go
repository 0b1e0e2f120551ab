package replication

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// valueOf returns what a counter stands at.
func valueOf(c prometheus.Metric) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err) // a counter can always be written
	}
	return m.GetCounter().GetValue()
}

func (n *testNode) dropped(reason string) float64 {
	return valueOf(n.repl.met.dropped.WithLabelValues(reason))
}

func TestBadMessagesLoseNothing(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "secret")
	n := nodes[0]
	poll.Until(t, patience, func() bool { return n.repl.Status().Brokers[0].Up }, "link")
	write(nodes, 0, 30)
	waitEqual(t, nodes...)
	signed, plain := NewCodec("test", []byte("secret")), NewCodec("test", nil)
	later := envelope{Version: 9, Kind: KindBatch, Instance: 7, Counter: 1}
	for reason, message := range map[string][]byte{
		"malformed": []byte("no message at all"),
		"unsigned":  plain.Seal(KindBatch, 7, 1, sampleBatch(t)),
		"forged":    NewCodec("test", []byte("guess")).Seal(KindBatch, 7, 1, sampleBatch(t)),
		"version":   protocol.EncodeCBOR(&later),
	} {
		before := n.dropped(reason)
		b.publish("test/updates", message)
		poll.Until(t, patience, func() bool { return n.dropped(reason) == before+1 }, reason)
	}
	b.publish("test/updates", make([]byte, 1<<20))
	poll.Until(t, patience, func() bool { return n.repl.Status().Brokers[0].Oversize == 1 }, "oversize")
	// What is rightly signed and not what its topic says is dropped as well.
	before := n.dropped("malformed")
	b.publish("test/heads", signed.Seal(KindBatch, 7, 2, sampleBatch(t)))
	b.publish("test/nodes/other", signed.Seal(KindPresence, 7, 2, protocol.EncodeCBOR(&Presence{Instance: 7, NodeID: "x"})))
	poll.Until(t, patience, func() bool { return n.dropped("malformed") == before+2 }, "wrong topics")
	write(nodes, 30, 60)
	waitEqual(t, nodes...)
	if got := n.rep.len(); got != 30 {
		t.Fatalf("%d keys, want 30", got)
	}
}

// dialPeer opens a connection to a node's client port.
func dialPeer(t *testing.T, n *testNode) *Link {
	t.Helper()
	conn, err := net.Dial("tcp", n.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newLink(t.Context(), conn, nil)
}

func strangerHello(prefix string, params protocol.PeerParams, secret bool) *protocol.PeerHello {
	return &protocol.PeerHello{
		Version: protocol.PeerVersion, NodeID: "stranger", Instance: 4711, Prefix: prefix, Address: "127.0.0.1:1",
		Nonce: make([]byte, protocol.PeerNonceLen), Started: 1, Params: params, Secret: secret,
	}
}

func TestPeersThatAreRefusedByName(t *testing.T) {
	n := startNode(t, nodeConfig{id: "n1", instance: 101, secret: "secret"})
	n.waitReady()
	newer := strangerHello("test", testParams, true)
	newer.Version = 2
	for code, tc := range map[string]struct {
		hello  *protocol.PeerHello
		secret string
	}{
		protocol.PeerCodeVersion: {newer, "secret"},
		protocol.PeerCodePrefix:  {strangerHello("other", testParams, true), "secret"},
		protocol.PeerCodeParams:  {strangerHello("test", protocol.PeerParams{EpochMillis: 5}, true), "secret"},
		protocol.PeerCodeSecret:  {strangerHello("test", testParams, true), "guess"},
	} {
		before := n.dropped("peer")
		_, err := dialPeer(t, n).dialHandshake(tc.hello, []byte(tc.secret))
		var refusal *protocol.PeerError
		if !errors.As(err, &refusal) || refusal.Code != code {
			t.Errorf("%s: %v", code, err)
		}
		poll.Until(t, patience, func() bool { return n.dropped("peer") == before+1 }, code)
	}
	_, err := dialPeer(t, n).dialHandshake(strangerHello("test", testParams, false), nil)
	var refusal *protocol.PeerError
	if !errors.As(err, &refusal) || refusal.Code != protocol.PeerCodeSecret {
		t.Errorf("no secret: %v", err)
	}
}

func TestGarbageOnThePeerLink(t *testing.T) {
	n := startNode(t, nodeConfig{id: "n1", instance: 101})
	n.waitReady()
	n.rep.set("k", []byte("v"))
	junk := make([]byte, 4096)
	rand.Read(junk)
	junk[4] = 200
	for name, bytes := range map[string][]byte{
		"random":     junk,
		"huge hello": {0xff, 0xff, 0xff, 0xff, byte(protocol.FrameHello)},
		"no hello":   protocol.AppendFrame(nil, protocol.FramePull, []byte{0xa0}),
		"empty":      protocol.AppendFrame(nil, protocol.FrameHello, nil),
	} {
		before := n.dropped("peer")
		p := dialPeer(t, n)
		if err := p.upgrade(); err != nil {
			t.Fatal(err)
		}
		p.conn.Write(bytes)
		poll.Until(t, patience, func() bool { return n.dropped("peer") == before+1 }, name)
		p.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, p.r); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
	}
	if v, _ := n.rep.value("k"); string(v) != "v" || n.rep.len() != 1 {
		t.Fatal("garbage changed the store")
	}
}

func TestRestartedNodeHasEverythingWhenReady(t *testing.T) {
	for name, ring := range map[string]int{"from the log": 1 << 20, "by a full copy": 10} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			one := startNode(t, nodeConfig{id: "n1", instance: 101, brokers: []string{b.addr}, ring: ring})
			for i := range 2000 {
				one.rep.set(fmt.Sprint(i), []byte("v"))
			}
			one.rep.set("big", make([]byte, 1<<20))
			one.waitReady()
			two := startNode(t, nodeConfig{id: "n2", instance: 102, brokers: []string{b.addr}, peers: []string{one.ln.Addr().String()}})
			two.waitReady()
			if d := two.rep.difference(one.rep); d != "" {
				t.Fatalf("ready without everything: %s", d)
			}
			full := valueOf(two.repl.met.fullCopies)
			if (full > 0) != (ring == 10) {
				t.Fatalf("%v full copies", full)
			}
			waitGapless(t, one, two)
		})
	}
}

func TestBigEntryIsFetched(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "")
	waitGapless(t, nodes...)
	nodes[0].rep.set("big", make([]byte, 4<<20))
	nodes[0].rep.set("after", []byte("v"))
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
}

func TestChangeFromTheFutureIsPutOff(t *testing.T) {
	b := startBroker(t)
	ahead := newMapReplica(101, func() int64 { return time.Now().Add(62 * time.Second).UnixMilli() }, 1<<20)
	one := startNode(t, nodeConfig{id: "n1", brokers: []string{b.addr}, rep: ahead})
	two := startNode(t, nodeConfig{id: "n2", instance: 102, brokers: []string{b.addr}, peers: []string{one.ln.Addr().String()}})
	two.waitReady()
	waitGapless(t, one, two)
	one.rep.set("k", []byte("v"))
	poll.Until(t, patience, func() bool { d := two.repl.Status().Deferred; return len(d) == 1 && d[0].Seq == 1 }, "deferral")
	waitEqual(t, one, two) // after two seconds
	poll.Until(t, patience, func() bool { return len(two.repl.Status().Deferred) == 0 }, "end of the deferral")
}

func TestDuplicateNodeIDStepsDown(t *testing.T) {
	b := startBroker(t)
	first := startNode(t, nodeConfig{id: "same", instance: 101, brokers: []string{b.addr}})
	first.waitReady()
	other := startNode(t, nodeConfig{id: "other", instance: 103, brokers: []string{b.addr}, peers: []string{first.ln.Addr().String()}})
	other.waitReady()
	second := startNode(t, nodeConfig{id: "same", instance: 102, brokers: []string{b.addr}})
	second.rep.set("mine", []byte("v"))
	var err error
	select {
	case err = <-second.done:
		second.done <- err
	case <-time.After(patience):
		t.Fatal("the later node does not stop")
	}
	if !errors.Is(err, ErrDuplicateNodeID) {
		t.Fatalf("the later node ended with %v", err)
	}
	if len(second.readOnly) != 1 {
		t.Fatal("the later node did not become read only first")
	}
	poll.Until(t, patience, func() bool { _, ok := other.rep.value("mine"); return ok }, "its entries to be handed over")
	if ok, why := first.repl.Ready(); !ok {
		t.Fatalf("the earlier node is disturbed: %v", why)
	}
}

func TestLiarChangesNothing(t *testing.T) {
	ln := listen(t)
	n := startNode(t, nodeConfig{id: "n1", instance: 101, peers: []string{ln.Addr().String()}})
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line := make([]byte, 6)
	if _, err := io.ReadFull(conn, line); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "OK\r\n")
	p := newLink(t.Context(), conn, nil)
	if _, err := p.acceptHandshake(strangerHello("test", testParams, false), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.read(stepTimeout, protocol.FrameHead); err != nil {
		t.Fatal(err)
	}
	h := sampleHead()
	h.NodeID, h.Instance = "stranger", 4711
	if err := p.write(stepTimeout, protocol.FrameHead, EncodeHead(h)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.read(stepTimeout, protocol.FramePull); err != nil {
		t.Fatal(err)
	}
	future := kv.Change{Origin: 5, Seq: 1, Entry: kv.Entry{Key: []byte("k"), Version: kv.Version{HLC: hlc.Timestamp(1) << 62, Instance: 5}}}
	entries := protocol.AppendChange(protocol.AppendEntriesHead(nil, 1), &future, false)
	if err := p.write(stepTimeout, protocol.FrameEntries, entries); err != nil {
		t.Fatal(err)
	}
	if err := p.write(stepTimeout, protocol.FrameEntries, []byte{0x81, 0xa1, 0x01, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, patience, func() bool { return valueOf(n.repl.met.pulls.WithLabelValues("failed")) >= 1 }, "the pull to be given up")
	if n.rep.len() != 0 {
		t.Fatal("a lie was stored")
	}
}
