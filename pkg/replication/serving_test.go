package replication

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
	"merklekv/pkg/protocol"
)

func TestSeats(t *testing.T) {
	s := newSeats(4)
	for i, tc := range []struct {
		node, host string
		ok         bool
	}{
		{"a", "h1", true}, {"a", "h1", false}, {"a", "h2", false}, {"b", "h1", true}, {"c", "h1", true},
		{"d", "h1", false}, {"d", "h2", true}, {"e", "h3", false},
	} {
		if got := s.take(tc.node, tc.host); (got == "") != tc.ok {
			t.Fatalf("%d: %s at %s: %q", i, tc.node, tc.host, got)
		}
	}
	s.leave("b", "h1")
	if got := s.take("e", "h1"); got != "" {
		t.Fatalf("a seat that is free again is not given: %s", got)
	}
	for node, host := range map[string]string{"a": "h1", "c": "h1", "d": "h2", "e": "h1"} {
		s.leave(node, host)
	}
	if len(s.nodes) != 0 || len(s.hosts) != 0 {
		t.Fatalf("left behind: %v, %v", s.nodes, s.hosts)
	}
}

func TestPullPace(t *testing.T) {
	const frame = 256 << 10
	fast, slow := new(pullPace), new(pullPace)
	for range 1000 {
		fast.note(frame, time.Second/2)
	}
	if got := fast.timeout(frame); got != frameTimeout {
		t.Fatalf("a puller that is fast enough has %v for a frame", got)
	}
	frames := 0
	for ; slow.timeout(frame) > 0 && frames < 1000; frames++ {
		slow.note(frame, 9*time.Second)
	}
	if frames < 2 || frames > 10 {
		t.Fatalf("a slow puller gets %d frames", frames)
	}
}

func TestPullerThatDoesNotReadHoldsOneSeat(t *testing.T) {
	n := startNode(t, nodeConfig{id: "n1", instance: 101})
	for i := range 64 {
		n.rep.set(fmt.Sprint(i), make([]byte, 1<<20))
	}
	n.waitReady()
	ask := func(node string) *Link {
		p := dialPeer(t, n)
		hello := strangerHello("test", testParams, false)
		hello.NodeID = node
		if _, err := p.dialHandshake(hello, nil); err != nil {
			t.Fatal(err)
		}
		if err := p.write(stepTimeout, protocol.FramePull, protocol.EncodeCBOR(new(protocol.PeerPull))); err != nil {
			t.Fatal(err)
		}
		return p
	}
	served := func() int {
		n.repl.serving.mu.Lock()
		defer n.repl.serving.mu.Unlock()
		return len(n.repl.serving.nodes)
	}
	ask("x")
	poll.Until(t, patience, func() bool { return served() == 1 }, "the pull to be served")
	_, _, err := ask("x").read(stepTimeout, protocol.FrameEntries)
	var refusal *protocol.PeerError
	if !errors.As(err, &refusal) || refusal.Code != protocol.PeerCodeBusy {
		t.Fatalf("the second pull of a node: %v", err)
	}
	if _, _, err := ask("y").read(patience, protocol.FrameEntries); err != nil {
		t.Fatalf("the pull of another node: %v", err)
	}
}
