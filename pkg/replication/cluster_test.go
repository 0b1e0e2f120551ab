package replication

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"merklekv/pkg/internal/poll"
	"merklekv/pkg/journal"
	"merklekv/pkg/protocol"
)

const patience = 20 * time.Second

// testBroker is a broker that can be stopped and started again at its address.
type testBroker struct {
	t      testing.TB
	addr   string
	server *mochi.Server
}

func startBroker(t testing.TB) *testBroker {
	b := &testBroker{t: t, addr: "127.0.0.1:0"}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *testBroker) start() {
	b.t.Helper()
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := b.server.AddHook(new(apart), nil); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.AddHook(new(auth.AllowHook), nil); err != nil {
		b.t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: b.addr})
	var err error
	poll.Until(b.t, patience, func() bool { err = b.server.AddListener(l); return err == nil }, "broker to bind")
	b.addr = l.Address()
	if err := b.server.Serve(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *testBroker) stop() {
	if b.server != nil {
		b.server.Close()
		b.server = nil
	}
}

func (b *testBroker) publish(topic string, payload []byte) {
	b.t.Helper()
	if err := b.server.Publish(topic, payload, false, 0); err != nil {
		b.t.Fatal(err)
	}
}

// testNode is a replicator with a map for a store and a client port that knows
// one command.
type testNode struct {
	t        testing.TB
	rep      *mapReplica
	repl     *Replicator
	ln       net.Listener
	done     chan error
	stop     func()
	readOnly chan string
}

type nodeConfig struct {
	id       string
	instance uint64
	brokers  []string
	peers    []string
	secret   string
	prefix   string
	ring     int
	rep      *mapReplica
	ln       net.Listener
	params   protocol.PeerParams
	qos1     bool // sessions that the brokers keep
	session  func(context.Context, *Link, []byte) error
	closed   func() Closed
	volume   uint64
	received []journal.Mark
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

var testParams = protocol.PeerParams{EpochMillis: 1000, TombstoneGrace: 3600}

func startNode(t testing.TB, cfg nodeConfig) *testNode {
	t.Helper()
	if cfg.ring == 0 {
		cfg.ring = 1 << 20
	}
	if cfg.prefix == "" {
		cfg.prefix = "test"
	}
	if cfg.ln == nil {
		cfg.ln = listen(t)
	}
	if cfg.params == (protocol.PeerParams{}) {
		cfg.params = testParams
	}
	n := &testNode{t: t, rep: cfg.rep, ln: cfg.ln, done: make(chan error, 1), readOnly: make(chan string, 1)}
	if n.rep == nil {
		n.rep = newMapReplica(cfg.instance, func() int64 { return time.Now().UnixMilli() }, cfg.ring)
	}
	var err error
	n.repl, err = New(Options{
		NodeID: cfg.id, Prefix: cfg.prefix, Address: cfg.ln.Addr().String(), Version: "test",
		Secret: []byte(cfg.secret), Params: cfg.params, PeerList: cfg.peers, Replica: n.rep,
		MQTT:     MQTTOptions{Brokers: cfg.brokers, ClientID: fmt.Sprintf("%s-%x", cfg.id, n.rep.instance), CleanSession: !cfg.qos1},
		ReadOnly: func(why string) { n.readOnly <- why }, Session: cfg.session, Closed: cfg.closed,
		Volume: cfg.volume, Received: cfg.received,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)).With("node", cfg.id),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() { n.accept(ctx, &conns) })
	go func() { n.done <- n.repl.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		n.ln.Close()
		if err := <-n.done; err != nil && !errors.Is(err, ErrDuplicateNodeID) {
			t.Errorf("%s: %v", cfg.id, err)
		}
		conns.Wait()
	})
	t.Cleanup(n.stop)
	return n
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (n *testNode) accept(ctx context.Context, conns *sync.WaitGroup) {
	for {
		conn, err := n.ln.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			r := bufio.NewReader(conn)
			line, err := r.ReadString('\n')
			if err != nil || strings.TrimSpace(line) != "PEER" {
				conn.Close()
				return
			}
			fmt.Fprint(conn, "OK\r\n")
			rest, _ := r.Peek(r.Buffered())
			n.repl.ServePeer(ctx, conn, rest)
		})
	}
}

func (n *testNode) waitReady() {
	n.t.Helper()
	poll.Until(n.t, patience, func() bool { ok, _ := n.repl.Ready(); return ok }, "node to be ready")
}

func waitEqual(t testing.TB, nodes ...*testNode) {
	t.Helper()
	last := ""
	defer func() {
		if t.Failed() {
			t.Log("last difference:", last)
		}
	}()
	poll.Until(t, patience, func() bool {
		for _, n := range nodes[1:] {
			if last = nodes[0].rep.difference(n.rep); last != "" {
				return false
			}
		}
		return true
	}, "replicas to be equal")
}

func waitGapless(t testing.TB, nodes ...*testNode) {
	t.Helper()
	poll.Until(t, patience, func() bool {
		for _, n := range nodes {
			s := n.repl.Status()
			if s.Gaps != 0 {
				return false
			}
			live := 0
			for _, p := range s.Peers {
				if p.Live && (p.LagEntries != 0 || p.Missing != 0) {
					return false
				}
				if p.Live {
					live++
				}
			}
			if live < len(nodes)-1 {
				return false
			}
		}
		return true
	}, "no lag and no gap")
}

func startThree(t testing.TB, brokers []string, secret string) []*testNode {
	t.Helper()
	return startThreeLike(t, nodeConfig{brokers: brokers, secret: secret})
}

// startThreeLike starts three nodes that differ in what must differ only.
func startThreeLike(t testing.TB, cfg nodeConfig) []*testNode {
	t.Helper()
	lns := []net.Listener{listen(t), listen(t), listen(t)}
	var peers []string
	for _, ln := range lns {
		peers = append(peers, ln.Addr().String())
	}
	var nodes []*testNode
	for i, ln := range lns {
		cfg.id, cfg.instance, cfg.peers, cfg.ln = fmt.Sprintf("n%d", i+1), uint64(i+101), peers, ln
		nodes = append(nodes, startNode(t, cfg))
	}
	for _, n := range nodes {
		n.waitReady()
	}
	return nodes
}

func write(nodes []*testNode, from, to int) {
	for i := from; i < to; i++ {
		nodes[i%len(nodes)].rep.set(fmt.Sprintf("k%d", i%(to-from)), fmt.Appendf(nil, "value %d", i))
	}
}

func TestThreeNodesThroughABroker(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "secret")
	write(nodes, 0, 3000)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
	if n := nodes[0].rep.len(); n != 3000 {
		t.Fatalf("%d keys, want 3000", n)
	}
}

func TestBrokerAway(t *testing.T) {
	t.Run("qos 0", func(t *testing.T) { brokerAway(t, false) })
	t.Run("qos 1", func(t *testing.T) { brokerAway(t, true) })
}

func brokerAway(t *testing.T, qos1 bool) {
	t.Helper()
	b := startBroker(t)
	nodes := startThreeLike(t, nodeConfig{brokers: []string{b.addr}, qos1: qos1})
	write(nodes, 0, 300)
	waitEqual(t, nodes...)
	b.stop()
	write(nodes, 300, 900)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
	b.start()
	poll.Until(t, patience, func() bool {
		for _, n := range nodes {
			if s := n.repl.Status(); !s.Brokers[0].Up {
				return false
			}
		}
		return true
	}, "links to come back")
	write(nodes, 900, 1500)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
}

func TestNoBrokerAtAll(t *testing.T) {
	nodes := startThree(t, nil, "secret")
	write(nodes, 0, 600)
	waitEqual(t, nodes...)
	waitGapless(t, nodes...)
}
