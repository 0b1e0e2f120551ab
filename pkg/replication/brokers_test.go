package replication

import (
	"context"
	"net"
	"sync"
	"testing"

	embedded "merklekv/pkg/broker"
	"merklekv/pkg/internal/poll"
)

// startEmbedded starts the broker that nodes embed. It returns its address, and
// what stops it.
func startEmbedded(t *testing.T) (addr string, stop func()) {
	t.Helper()
	b, err := embedded.New(embedded.Options{Address: "127.0.0.1:0", Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() { _ = b.Serve(ctx) }) // its error is that of its end
	stop = sync.OnceFunc(func() {
		cancel()
		_ = b.Close()
		served.Wait()
	})
	t.Cleanup(stop)
	return b.Addr().String(), stop
}

// linked waits until every node's links are as wanted, in the order of brokers.
func linked(t *testing.T, nodes []*testNode, want ...bool) {
	t.Helper()
	poll.Until(t, patience, func() bool {
		for _, n := range nodes {
			for i, b := range n.repl.Status().Brokers {
				if b.Up != want[i] {
					return false
				}
			}
		}
		return true
	}, "links up", want)
}

// TestTwoBrokers shows that a second broker makes no difference but one: the
// first may go away and nothing has to be fetched by TCP for that.
func TestTwoBrokers(t *testing.T) {
	first, stopFirst := startEmbedded(t)
	second, _ := startEmbedded(t)
	nodes := startThree(t, []string{first, second}, "secret")
	linked(t, nodes, true, true)
	waitGapless(t, nodes...)
	write(nodes, 0, 300)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
	for _, n := range nodes {
		poll.Until(t, patience, func() bool { return valueOf(n.repl.met.duplicate) > 0 }, "a change by both brokers")
		n.mergedOnce()
	}

	stopFirst()
	linked(t, nodes, false, true)
	published := make([]float64, len(nodes))
	for i, n := range nodes {
		published[i] = valueOf(n.repl.met.published)
	}
	write(nodes, 300, 600)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
	for i, n := range nodes {
		poll.Until(t, patience, func() bool { return valueOf(n.repl.met.published) == published[i]+100 },
			"every change to go out by the broker that is left")
		n.mergedOnce()
	}
}

// mergedOnce checks that no change was merged twice.
func (n *testNode) mergedOnce() {
	n.t.Helper()
	n.rep.mu.Lock()
	defer n.rep.mu.Unlock()
	for change, times := range n.rep.merges {
		if times != 1 {
			n.t.Fatalf("change %d of %d was merged %d times", change[1], change[0], times)
		}
	}
}

// gone reports whether a node counts an instance as gone because it was told so,
// and not because it was silent.
func (n *testNode) gone(instance uint64) bool {
	down := false
	err := n.repl.do(n.t.Context(), func(c *Core) {
		p := c.peers[instance]
		down = p != nil && p.down
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return down
}

func TestRestartAtTheSameAddress(t *testing.T) {
	addr, _ := startEmbedded(t)
	nodes := startThree(t, []string{addr}, "")
	linked(t, nodes, true)
	write(nodes, 0, 300)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)

	old, others := nodes[0], nodes[1:]
	old.stop()
	for _, n := range others {
		poll.Until(t, patience, func() bool { return n.gone(101) }, "the good-bye of the node that stopped")
	}
	write(others, 300, 400)

	cfg := nodeConfig{id: "n1", instance: 201, brokers: []string{addr}, peers: []string{others[0].ln.Addr().String()}}
	poll.Until(t, patience, func() bool {
		ln, err := net.Listen("tcp", old.ln.Addr().String())
		cfg.ln = ln
		return err == nil
	}, "the old address")
	again := startNode(t, cfg)
	again.waitReady()
	nodes[0] = again
	waitEqual(t, nodes...)
	write(nodes, 400, 700)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
	for _, n := range others {
		if !n.gone(101) || n.gone(201) {
			t.Errorf("%s: old instance gone: %v, new one gone: %v", n.repl.opts.NodeID, n.gone(101), n.gone(201))
		}
	}
}
