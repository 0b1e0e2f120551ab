package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
	"merklekv/pkg/protocol"
)

// echoSession answers each sync frame with its salt, until one is empty.
func echoSession(served *atomic.Int64) func(context.Context, *Link, []byte) error {
	return func(_ context.Context, l *Link, open []byte) error {
		served.Add(1)
		for {
			salt := l.Salt()
			if err := l.Send(protocol.FrameSync, append(salt[:], open...)); err != nil {
				return err
			}
			_, payload, err := l.Receive(protocol.FrameSync)
			if err != nil || len(payload) == 0 {
				return err
			}
			open = slices.Clone(payload)
		}
	}
}

func TestSessionOverALink(t *testing.T) {
	var served atomic.Int64
	a := startNode(t, nodeConfig{id: "a", instance: 1, secret: "s", session: echoSession(&served)})
	b := startNode(t, nodeConfig{id: "b", instance: 2, secret: "s"})
	l, err := b.repl.Connect(t.Context(), a.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Peer().NodeID != "a" {
		t.Fatalf("peer %+v", l.Peer())
	}
	// Heads were swapped and taken in by both.
	for _, n := range []*testNode{a, b} {
		s, err := n.repl.StatusNow(t.Context())
		if err != nil || len(s.Peers) != 1 || s.Peers[0].Head == nil {
			t.Fatalf("%+v, %v", s.Peers, err)
		}
	}
	in, out := l.In(), l.Out()
	for _, open := range []string{"first", "second"} {
		if err := l.Send(protocol.FrameSync, []byte(open)); err != nil {
			t.Fatal(err)
		}
		_, payload, err := l.Receive(protocol.FrameSync)
		if err != nil {
			t.Fatal(err)
		}
		salt := l.Salt()
		if got := string(payload); got != string(salt[:])+open {
			t.Fatalf("answer %q", got)
		}
	}
	if got := l.Out() - out; got != 2*protocol.FrameHeaderLen+11 {
		t.Errorf("%d bytes out", got)
	}
	if got := l.In() - in; got != 2*(protocol.FrameHeaderLen+32)+11 {
		t.Errorf("%d bytes in", got)
	}
	if err := l.Send(protocol.FrameSync, nil); err != nil {
		t.Fatal(err)
	}
	if served.Load() != 1 {
		t.Errorf("%d sessions", served.Load())
	}
	again, err := b.repl.Connect(t.Context(), a.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Salt() == l.Salt() {
		t.Error("two links have one salt")
	}
}

func TestConnectRefusals(t *testing.T) {
	a := startNode(t, nodeConfig{id: "a", instance: 1})
	far := startNode(t, nodeConfig{id: "b", instance: 2, params: protocol.PeerParams{EpochMillis: 1000, TombstoneGrace: 1}})
	addr := a.ln.Addr().String()
	var refusal *protocol.PeerError
	if _, err := far.repl.Connect(t.Context(), addr); !errors.As(err, &refusal) || refusal.Code != protocol.PeerCodeParams {
		t.Errorf("other parameters: %v", err)
	}
	if _, err := a.repl.Connect(t.Context(), addr); !errors.Is(err, ErrSelf) {
		t.Errorf("itself: %v", err)
	}
	b := startNode(t, nodeConfig{id: "c", instance: 3})
	l, err := b.repl.Connect(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(protocol.FrameSync, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Receive(protocol.FrameSync); !errors.As(err, &refusal) || refusal.Code != protocol.PeerCodeSync {
		t.Errorf("no sessions there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	held, err := b.repl.Connect(ctx, addr)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, _, err := held.Receive(protocol.FrameSync); err == nil {
		t.Error("a link outlives its context")
	}
}

// A node that joins through one peer is found by all, without a broker.
func TestJoiningThroughOnePeer(t *testing.T) {
	first := startNode(t, nodeConfig{id: "n1", instance: 101})
	seed := []string{first.ln.Addr().String()}
	nodes := []*testNode{first}
	for i := range 3 {
		nodes = append(nodes, startNode(t, nodeConfig{id: fmt.Sprintf("n%d", i+2), instance: uint64(102 + i), peers: seed}))
	}
	for _, n := range nodes {
		poll.Until(t, patience, func() bool {
			live := 0
			for _, p := range n.repl.Status().Peers {
				if p.Live {
					live++
				}
			}
			return live == 3
		}, "everybody to be found")
	}
	write(nodes, 0, 100)
	waitEqual(t, nodes...)
}

// Heads reach a node that cannot be reached by their own.
func TestRelayOverLinks(t *testing.T) {
	b := startBroker(t)
	hub := startNode(t, nodeConfig{id: "hub", instance: 1, brokers: []string{b.addr}})
	closed := func() net.Listener { // where nobody can be dialled
		ln := listen(t)
		ln.Close()
		return ln
	}
	leaf := startNode(t, nodeConfig{id: "leaf", instance: 2, peers: []string{hub.ln.Addr().String()}, ln: closed()})
	startNode(t, nodeConfig{id: "far", instance: 3, brokers: []string{b.addr}, ln: closed()})
	poll.Until(t, patience, func() bool {
		for _, p := range leaf.repl.Status().Peers {
			if p.NodeID == "far" && p.HeadAge < 3*time.Second && !p.Live {
				return true
			}
		}
		return false
	}, "the far node's head")
}

func TestReplicationPaused(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "")
	waitGapless(t, nodes...)
	linked(t, nodes, true)
	off := nodes[0]
	off.repl.SetEnabled(false)
	pausedAt := func(n *testNode, want bool) {
		t.Helper()
		poll.Until(t, patience, func() bool {
			return slices.ContainsFunc(n.repl.Status().Peers, func(p PeerStatus) bool {
				return p.Instance == 101 && p.Head != nil && p.Head.Paused == want
			})
		}, "its head to say so")
	}
	pausedAt(nodes[1], true)
	pausedAt(nodes[2], true)
	write(nodes, 0, 300)
	waitEqual(t, nodes[1], nodes[2])
	counter := func(n *testNode) uint64 {
		for _, p := range n.repl.Status().Peers {
			if p.Instance == 101 && p.Head != nil {
				return p.Head.Counter
			}
		}
		return 0
	}
	before := counter(nodes[1])
	poll.Until(t, patience, func() bool { return counter(nodes[1]) > before+1 }, "heads to go on")
	if got := off.rep.len(); got != 100 || nodes[1].rep.len() != 200 || off.repl.Enabled() {
		t.Fatalf("%d keys at the paused node, %d at another", got, nodes[1].rep.len())
	}
	off.repl.SetEnabled(true)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
	if off.rep.len() != 300 {
		t.Fatalf("%d keys", off.rep.len())
	}
}

func TestHeadsOnRequest(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "secret")
	linked(t, nodes, true)
	sent := valueOf(nodes[1].repl.met.headsOut)
	const asks = 40
	for range asks {
		if err := nodes[0].repl.RequestHeads(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	poll.Until(t, patience, func() bool { return valueOf(nodes[1].repl.met.headsOut) > sent }, "a head")
	if d := nodes[1].dropped("malformed"); d != 0 {
		t.Fatalf("%v messages were malformed", d)
	}
	if got := valueOf(nodes[1].repl.met.headsOut) - sent; got > asks/2 {
		t.Fatalf("%v heads for %d requests at once", got, asks)
	}
}

func TestForgottenNodeLeavesNoPresence(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "")
	linked(t, nodes, true)
	presence := func() bool { return len(b.server.Topics.Messages("test/nodes/n3")) > 0 }
	poll.Until(t, patience, presence, "presence")
	nodes[2].stop()
	known := func() bool {
		return slices.ContainsFunc(nodes[0].repl.Status().Peers, func(p PeerStatus) bool { return p.NodeID == "n3" })
	}
	poll.Until(t, patience, func() bool {
		if err := nodes[0].repl.Forget(t.Context(), "n3"); err != nil {
			t.Fatal(err)
		}
		return !known() && !presence()
	}, "the node to be forgotten")
}
