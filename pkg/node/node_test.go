package node_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"merklekv/pkg/config"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/kv"
	"merklekv/pkg/node"
	"merklekv/pkg/replication"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for a condition on a busy machine.
const patience = 30 * time.Second

// testConfig is a node on free ports of the loopback.
func testConfig(id string) config.Config {
	c := config.Default()
	c.NodeID = id
	c.Network.BindPort, c.Admin.BindPort, c.Broker.BindPort = 0, 0, 0
	return c
}

// running is a node that runs.
type running struct {
	*node.Node
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, c config.Config) *running {
	t.Helper()
	n, err := node.New(t.Context(), node.Options{Config: c, Version: "test", Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Node: n, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- n.Run(ctx) }()
	t.Cleanup(func() { r.halt() })
	return r
}

// halt stops the node and returns what Run returned; nil if it was stopped before.
func (r *running) halt() error {
	r.stop()
	err, open := <-r.done
	if open {
		close(r.done)
	}
	return err
}

// ready waits until the node serves data commands.
func (r *running) ready() *running {
	r.t.Helper()
	poll.Until(r.t, patience, func() bool { ok, _ := r.Replication().Ready(); return ok }, "node is ready")
	return r
}

// do sends one request and returns the first line of the reply.
func (r *running) do(format string, args ...any) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, format+"\r\n", args...); err != nil {
		r.t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

// shows waits until a key reads as wanted.
func (r *running) shows(key, want string) {
	r.t.Helper()
	got := ""
	poll.Until(r.t, patience, func() bool { got = r.do("GET %s", key); return got == want },
		fmt.Sprintf("%s reads %s", key, want))
}

// cluster starts three nodes, the first of which runs the broker.
func cluster(t *testing.T, change func(*config.Config)) []*running {
	t.Helper()
	first := testConfig("node1")
	first.Broker.Enabled = true
	if change != nil {
		change(&first)
	}
	nodes := []*running{start(t, first)}
	for i := 2; i <= 3; i++ {
		c := testConfig(fmt.Sprintf("node%d", i))
		c.MQTT.BrokerAddress = nodes[0].BrokerAddr().String()
		c.AntiEntropy.PeerList = []string{nodes[0].Addr().String()}
		if change != nil {
			change(&c)
		}
		nodes = append(nodes, start(t, c))
	}
	for _, n := range nodes {
		n.ready()
	}
	return nodes
}

// dump returns everything that a node holds.
func (r *running) dump() string {
	var all []string
	r.Store().Dump(func(e *kv.Entry) bool {
		all = append(all, fmt.Sprintf("%q/%q %v %d %d %q", e.Key, e.Facet, e.Version, e.Flags, e.ExpiresAt, e.Value))
		return true
	})
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func equal(t *testing.T, nodes ...*running) {
	t.Helper()
	poll.Until(t, patience, func() bool {
		want := nodes[0].dump()
		for _, n := range nodes[1:] {
			if n.dump() != want {
				return false
			}
		}
		return true
	}, "all nodes hold the same")
}

func TestThreeNodesReplicate(t *testing.T) {
	nodes := cluster(t, nil)
	for i, writer := range nodes {
		key, value := fmt.Sprintf("key%d", i), fmt.Sprintf(`{"by": "node %d", "ü": " blanks  "}`, i)
		if got := writer.do("SET %s %s", key, value); got != "OK" {
			t.Fatalf("SET on node %d: %s", i, got)
		}
		for _, reader := range nodes {
			reader.shows(key, value)
		}
	}
	if got := nodes[1].do("DEL key0"); got != "DELETED" {
		t.Fatalf("DEL: %s", got)
	}
	for _, n := range nodes {
		n.shows("key0", "(null)")
	}
	equal(t, nodes...)
}

func TestEntryTooBigForABatchIsFetched(t *testing.T) {
	nodes := cluster(t, func(c *config.Config) { c.Network.MaxRequestBytes = 8 << 20 })
	big := strings.Repeat("0123456789abcdef", 200_000)
	if got := nodes[0].do("SET big %s", big); got != "OK" {
		t.Fatalf("SET: %s", got)
	}
	nodes[2].do("SET after small")
	for _, n := range nodes {
		n.shows("after", "small")
		n.shows("big", big)
	}
}

// Without any broker heads and changes flow over TCP, and writers notice
// nothing.
func TestWithoutABroker(t *testing.T) {
	nowhere, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer nowhere.Close()
	var nodes []*running
	for i := range 3 {
		c := testConfig(fmt.Sprintf("node%d", i+1))
		c.MQTT.BrokerAddress = nowhere.Addr().String()
		for _, other := range nodes {
			c.AntiEntropy.PeerList = append(c.AntiEntropy.PeerList, other.Addr().String())
		}
		nodes = append(nodes, start(t, c).ready())
	}
	for i, n := range nodes {
		if got := n.do("SET key%d v%d", i, i); got != "OK" {
			t.Fatalf("SET on node %d: %s", i, got)
		}
	}
	for i := range nodes {
		for _, n := range nodes {
			n.shows(fmt.Sprintf("key%d", i), fmt.Sprintf("v%d", i))
		}
	}
	equal(t, nodes...)
}

// A node that starts again, empty and with a new instance, is not ready before
// it has everything.
func TestRestartedNodeHasEverything(t *testing.T) {
	nodes := cluster(t, nil)
	for i := range 200 {
		nodes[i%3].do("SET key%d value%d", i, i)
	}
	nodes[0].do("DEL key7")
	equal(t, nodes...)
	if err := nodes[2].halt(); err != nil {
		t.Fatalf("a stopped node returned %v", err)
	}
	nodes[0].do("SET key8 meanwhile")
	c := testConfig("node3")
	c.MQTT.BrokerAddress = nodes[0].BrokerAddr().String()
	c.AntiEntropy.PeerList = []string{nodes[1].Addr().String()}
	again := start(t, c).ready()
	for key, want := range map[string]string{"key8": "meanwhile", "key199": "value199", "key7": "(null)"} {
		again.shows(key, want)
	}
	equal(t, nodes[0], nodes[1], again)
}

func TestDuplicateNodeIDGivesWay(t *testing.T) {
	for name, advertise := range map[string]func(original *running, twin *config.Config){
		"with an address of its own": func(*running, *config.Config) {},
		// Dialling cannot tell the two apart, and each throws the other off the
		// broker, because they have one MQTT client id as well.
		"with the same address": func(original *running, twin *config.Config) {
			twin.Network.AdvertiseAddress = original.Addr().String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := cluster(t, nil)
			c := testConfig("node2")
			c.MQTT.BrokerAddress = nodes[0].BrokerAddr().String()
			advertise(nodes[1], &c)
			givesWay(t, start(t, c))
			if got := nodes[1].do("SET still here"); got != "OK" {
				t.Fatalf("the earlier node: %s", got)
			}
		})
	}
}

func givesWay(t *testing.T, twin *running) {
	t.Helper()
	select {
	case err := <-twin.done:
		close(twin.done)
		if !errors.Is(err, replication.ErrDuplicateNodeID) {
			t.Fatalf("the later of two nodes returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the later of two nodes goes on")
	}
}

func TestShutdownByAClient(t *testing.T) {
	c := testConfig("alone")
	c.Broker.Enabled = true
	n := start(t, c).ready()
	if got := n.do("SHUTDOWN"); got != "OK" {
		t.Fatalf("SHUTDOWN: %s", got)
	}
	if err := n.halt(); err != nil {
		t.Fatalf("Run returned %v", err)
	}
	c.Admin.AllowShutdown = false
	if got := start(t, c).ready().do("SHUTDOWN"); got != "ERROR: Not authorized" {
		t.Fatalf("SHUTDOWN where it is not allowed: %s", got)
	}
}

func TestReload(t *testing.T) {
	c := testConfig("alone")
	c.Broker.Enabled = true
	n := start(t, c).ready()
	c.Storage.MemoryLimitMB = 1
	c.Network.MaxConnections = 17
	c.Replication.MaxClockDrift = 7
	n.Reload(c, []string{"storage.memory_limit_mb", "network.max_connections", "replication.max_clock_drift"})
	if got := n.MaxDrift(); got != 7*time.Second {
		t.Errorf("drift limit after reload: %v", got)
	}
	if got := n.Store().Stats().Limit; got != 1<<20 {
		t.Errorf("memory limit after reload: %d", got)
	}
	filler := strings.Repeat("x", 900_000)
	n.do("SET a %s", filler)
	if got := n.do("SET b %s", filler); got != "ERROR: Storage full" {
		t.Errorf("write over the new limit: %.40s", got)
	}
	if got := n.do("DEL a"); got != "DELETED" {
		t.Errorf("DEL in a full store: %s", got)
	}
}

// A constructor that fails leaves no port bound behind.
func TestNewThatFailsReleasesItsPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	c := testConfig("alone")
	c.Broker.Enabled = true
	c.Network.BindPort = port
	c.Admin.BindPort = taken.Addr().(*net.TCPAddr).Port
	if _, err := node.New(t.Context(), node.Options{Config: c}); err == nil || !strings.Contains(err.Error(), "admin port") {
		t.Fatalf("New with a taken admin port: %v", err)
	}
	again, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatalf("the client port is still bound: %v", err)
	}
	again.Close()
}

// The cluster secret and passwords appear in no log, metric or error.
func TestSecretsAreNotShown(t *testing.T) {
	const canary = "canary-4f1b"
	var log bytes.Buffer
	c := testConfig("alone")
	c.Broker.Enabled = true
	c.Broker.Users = []config.Secret{"user:" + canary}
	c.MQTT.Username, c.MQTT.Password = "user", canary
	c.Security.ClusterSecret = canary
	n, err := node.New(t.Context(), node.Options{Config: c, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Node: n, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- n.Run(ctx) }()
	r.ready()
	info := r.do("INFO")
	families, err := n.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.halt(); err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"log": log.String(), "metrics": fmt.Sprint(families), "INFO": info} {
		if strings.Contains(text, canary) {
			t.Errorf("the %s shows a secret", where)
		}
	}
	if !strings.Contains(log.String(), "replication is ready") {
		t.Error("the log is not what was looked through")
	}
}

// testLogger shows a node's log when its test fails.
func testLogger(t *testing.T) *slog.Logger {
	var log lockedBuffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of a node:\n%s", log.String())
		}
	})
	return slog.New(slog.NewTextHandler(&log, nil))
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// readiness returns what /readyz?verbose says.
func (r *running) readiness() string {
	r.t.Helper()
	return r.get("/readyz?verbose")
}

// get returns what the admin port answers.
func (r *running) get(path string) string {
	r.t.Helper()
	response, err := http.Get("http://" + r.AdminAddr().String() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// A node that its peers refuse serves, but says so to whoever asks.
func TestReadinessNamesPeersThatRefuse(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	c := testConfig("strict")
	c.Broker.Enabled = true
	c.Security.ClusterSecret = "a secret of some length"
	strict := start(t, c).ready()
	c = testConfig("open")
	c.MQTT.BrokerAddress = strict.BrokerAddr().String()
	c.AntiEntropy.PeerList = []string{strict.Addr().String()}
	open := start(t, c)
	want := fmt.Sprintf("[!]address %s degraded: ", strict.Addr())
	said := ""
	poll.Until(t, patience, func() bool {
		said = open.readiness()
		return strings.Contains(said, want) && strings.Contains(said, "cluster_secret")
	}, "readiness names the refusal")
}

func TestReadinessSaysThatTheStoreIsFull(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	c := testConfig("alone")
	c.Broker.Enabled = true
	c.Storage.MemoryLimitMB = 1
	n := start(t, c).ready()
	if said := n.readiness(); !strings.Contains(said, "[+]memory ok") {
		t.Fatalf("an empty store: %s", said)
	}
	value := strings.Repeat("x", 8000)
	for i := 0; n.do("SET key%d %s", i, value) == "OK"; i++ {
	}
	if said := n.readiness(); !strings.Contains(said, "[!]memory degraded") {
		t.Fatalf("a full store: %s", said)
	}
}
