package node_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"merklekv/pkg/config"
	"merklekv/pkg/internal/poll"
)

// report sends one request and returns the lines of the reply before END.
func (r *running) report(format string, args ...any) []string {
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
	var lines []string
	for in := bufio.NewScanner(conn); in.Scan(); {
		if in.Text() == "END" || strings.HasPrefix(in.Text(), "ERROR: ") {
			return append(lines, strings.TrimSuffix(in.Text(), "END"))
		}
		lines = append(lines, in.Text())
	}
	r.t.Fatalf("%s has no end: %q", fmt.Sprintf(format, args...), lines)
	return nil
}

// at returns the client port in the words of SYNC and DIFF.
func (r *running) at() string {
	host, port, err := net.SplitHostPort(r.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	return host + " " + port
}

// answers waits until a request is answered by a line that begins so, and returns
// it.
func (r *running) answers(request, want string) string {
	r.t.Helper()
	got, begin := "", time.Now()
	for ; !strings.HasPrefix(got, want) && time.Since(begin) < patience; got = r.do("%s", request) {
	}
	if !strings.HasPrefix(got, want) {
		r.t.Fatalf("%s is answered by %q, not by %q", request, got, want)
	}
	return got
}

// joined waits until every node sees exactly these as members, all alive.
func joined(t *testing.T, nodes ...*running) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	for _, n := range nodes {
		poll.Until(t, patience, func() bool {
			text := n.api("members")
			return strings.Count(text, `"live":true`) == len(nodes) && strings.Count(text, `"live":`) == len(nodes)
		}, "members are ", len(nodes), " nodes that are alive")
	}
}

// agree waits until every node says that all of them are equal, and checks that
// they hold the same.
func agree(t *testing.T, nodes ...*running) {
	t.Helper()
	joined(t, nodes...)
	for _, n := range nodes {
		n.answers("CONVERGED", "EQUAL ")
	}
	root := nodes[0].do("HASH")
	for _, n := range nodes[1:] {
		if got := n.do("HASH"); got != root {
			t.Errorf("all say EQUAL, and HASH is %s and %s", root, got)
		}
	}
	equal(t, nodes...)
}

// pair starts two nodes that know each other.
func pair(t *testing.T, change func(second *config.Config)) (first, second *running) {
	t.Helper()
	c := testConfig("node1")
	c.Broker.Enabled = true
	first = start(t, c).ready()
	c = testConfig("node2")
	c.MQTT.BrokerAddress = first.BrokerAddr().String()
	c.AntiEntropy.PeerList = []string{first.Addr().String()}
	if change != nil {
		change(&c)
	}
	return first, start(t, c)
}

func TestConvergedClusterSaysSo(t *testing.T) {
	nodes := cluster(t, nil)
	for i := range 60 {
		nodes[i%3].do("SET key%d value%d", i%40, i)
	}
	nodes[1].do("DEL key3")
	agree(t, nodes...)
	for i, n := range nodes {
		peers := n.report("PEERS")
		if len(peers) != 3 || !strings.Contains(strings.Join(peers, "\n"), "live=true") {
			t.Errorf("node%d sees %q", i+1, peers)
		}
		if got := n.do("REPLICATE status"); got != "REPLICATION enabled 3 nodes" {
			t.Errorf("node%d: %s", i+1, got)
		}
		if got := n.do("CONVERGED 0000000000010000-0000000000000001"); !strings.HasPrefix(got, "EQUAL ") {
			t.Errorf("node%d about an old version: %s", i+1, got)
		}
	}
	info := strings.Join(nodes[0].report("INFO repair"), "\n")
	for _, want := range []string{"# repair", "enabled:true", "\nroot:", "\nstuck:0", "\nrunning:"} {
		if !strings.Contains(info, want) {
			t.Errorf("INFO repair has no %q: %s", want, info)
		}
	}
}

func TestForgottenNodeIsMissedNoMore(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	nodes := cluster(t, nil)
	agree(t, nodes...)
	if err := nodes[2].halt(); err != nil {
		t.Fatal(err)
	}
	nodes[0].do("SET late write")
	if got := nodes[0].answers("CONVERGED", "UNKNOWN unheard"); got != "UNKNOWN unheard node3" {
		t.Errorf("with a silent member: %s", got)
	}
	poll.Until(t, patience, func() bool { return strings.Contains(nodes[1].readiness(), "[!]peer node3 degraded: not heard") },
		"readiness names the silent member")
	c := testConfig("node4") // never heard of node3, but from its entry
	c.MQTT.BrokerAddress = nodes[0].BrokerAddr().String()
	later := start(t, c).ready()
	poll.Until(t, patience, func() bool { return strings.Contains(later.readiness(), "node3 degraded: not heard") },
		"a later node names the silent member")
	if got := nodes[1].do("FORGET node3"); got != "OK" {
		t.Fatalf("FORGET: %s", got)
	}
	nodes[2] = later
	agree(t, nodes...)
	for _, n := range nodes {
		if got := n.do("FORGET node3"); got != "NOT_FOUND" {
			t.Errorf("FORGET again: %s", got)
		}
	}
}

func TestTruncateIsForAllNodes(t *testing.T) {
	for _, command := range []string{"FLUSHDB", "TRUNCATE"} {
		nodes := cluster(t, nil)
		for i := range 90 {
			nodes[i%3].do("SET key%d value%d", i, i)
		}
		equal(t, nodes...)
		if got := nodes[1].do("%s", command); got != "OK" {
			t.Fatalf("%s: %s", command, got)
		}
		nodes[1].do("SET after it")
		for _, n := range nodes {
			n.shows("after", "it")
			n.answers("DBSIZE", "1")
			n.shows("key7", "(null)")
		}
		agree(t, nodes...)
		for _, n := range nodes {
			if err := n.halt(); err != nil {
				t.Error(err)
			}
		}
	}
}

// What differs can be looked at from a node that exchanges nothing by itself, and
// repaired by hand.
func TestSyncAndDiffByHand(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	first, second := pair(t, nil)
	second.ready().do("SET common old")
	agree(t, first, second)
	if got := first.do("REPLICATE disable"); got != "OK" {
		t.Fatal(got)
	}
	if got := first.do("REPLICATE status"); !strings.HasPrefix(got, "REPLICATION disabled") {
		t.Errorf("status: %s", got)
	}
	first.do("SET new here")
	first.do("DEL common")
	second.do("SET there only")
	first.answers("SYNC "+second.at()+" --verify", "DIFFERENT 3")
	lines := first.report("DIFF %s", second.at())
	slices.Sort(lines[1:])
	held := func(line, side string) bool {
		return !strings.HasSuffix(line+" ", side+"= ") && strings.Contains(line, side+"=")
	}
	if len(lines) != 5 || lines[0] != "DIFF 3" || lines[1] != "" ||
		!strings.HasPrefix(lines[2], "key=common facet= here=") || !held(lines[2], "there") ||
		!strings.HasPrefix(lines[3], "key=new facet= here=") || held(lines[3], "there") ||
		!strings.HasPrefix(lines[4], "key=there facet= here= there=") || !held(lines[4], "there") {
		t.Errorf("DIFF: %q", lines)
	}
	if shown := first.api("syncs?n=1"); strings.Count(shown, `"here":"`) != 3 || !strings.Contains(shown, `{"key":"there","facet":"","here":"","there":"`) {
		t.Errorf("the record of DIFF: %s", shown)
	}
	if lines := first.report("DIFF %s 1", second.at()); len(lines) != 3 || lines[0] != "DIFF 3" {
		t.Errorf("DIFF with a limit: %q", lines)
	}
	if got := second.do("GET new"); got != "(null)" {
		t.Fatalf("looking changed something: %s", got)
	}
	if got := second.do("SYNC %s", first.at()); got != "ERROR: Sync failed: replication is disabled at node1" {
		t.Errorf("SYNC with a node that is paused: %s", got)
	}
	if got := first.do("SYNC %s", second.at()); !strings.HasPrefix(got, "OK repaired=3 compared=") {
		t.Errorf("SYNC: %s", got)
	}
	for _, n := range []*running{first, second} {
		n.shows("new", "here")
		n.shows("there", "only")
		n.shows("common", "(null)")
	}
	first.answers("SYNC "+second.at()+" --verify", "EQUAL")
	if got := first.do("SYNC %s --full", second.at()); !strings.HasPrefix(got, "OK repaired=0") {
		t.Errorf("SYNC --full of what is equal: %s", got)
	}
	if syncs := strings.Join(first.report("SYNCS"), "\n"); !strings.Contains(syncs, "peer=node2 why=command mode=repair") {
		t.Errorf("SYNCS: %s", syncs)
	}
	if got := first.do("REPLICATE enable"); got != "OK" {
		t.Fatal(got)
	}
	first.do("SET again flows")
	second.shows("again", "flows")
	agree(t, first, second)
}

func TestSyncIsRefusedByName(t *testing.T) {
	const secret = "a secret of some length"
	for name, tc := range map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"topic prefix":    {func(c *config.Config) { c.MQTT.TopicPrefix = "another" }, "topic_prefix"},
		"tombstone grace": {func(c *config.Config) { c.AntiEntropy.TombstoneGrace = 77 }, "tombstone_grace"},
		"cluster secret":  {func(c *config.Config) { c.Security.ClusterSecret = secret }, "cluster_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			var nodes []*running
			for i, change := range []func(*config.Config){func(*config.Config) {}, tc.change} {
				c := testConfig(fmt.Sprintf("node%d", i+1))
				c.Broker.Enabled = true
				change(&c)
				nodes = append(nodes, start(t, c).ready())
			}
			nodes[0].do("SET mine 1")
			for i, n := range nodes {
				got := n.do("SYNC %s", nodes[1-i].at())
				if !strings.HasPrefix(got, "ERROR: Sync failed: ") || !strings.Contains(got, tc.want) {
					t.Errorf("SYNC from node%d: %s, which does not name %s", i+1, got, tc.want)
				}
			}
			if got := nodes[1].do("GET mine"); got != "(null)" {
				t.Errorf("a refused session has brought %s", got)
			}
		})
	}
	c := testConfig("alone")
	c.Broker.Enabled = true
	n := start(t, c).ready()
	if got := n.do("SYNC 127.0.0.1 1"); got != "ERROR: Connection failed" {
		t.Errorf("SYNC with nobody: %s", got)
	}
	if got := n.do("SYNC %s", n.at()); !strings.HasPrefix(got, "ERROR: Sync failed: ") {
		t.Errorf("SYNC with itself: %s", got)
	}
}

// A node that is started later is found by all, and finds all, whichever of the
// ways to one of them it is given.
func TestNodeAddedWhileTheOthersRun(t *testing.T) {
	nodes := cluster(t, nil)
	nodes[0].do("SET before it came")
	byBroker := testConfig("node4")
	byBroker.MQTT.BrokerAddress = nodes[0].BrokerAddr().String()
	byPeer := testConfig("node5")
	byPeer.MQTT.BrokerAddress = "127.0.0.1:1" // nobody listens there
	byPeer.AntiEntropy.PeerList = []string{nodes[2].Addr().String()}
	for _, c := range []config.Config{byBroker, byPeer} {
		nodes = append(nodes, start(t, c).ready())
	}
	for _, n := range nodes {
		n.shows("before", "it came")
		n.answers("REPLICATE status", "REPLICATION enabled 5 nodes")
	}
	nodes[4].do("SET from node5")
	agree(t, nodes...)
}

// api returns what a path under /api/ answers.
func (r *running) api(path string) string {
	r.t.Helper()
	return r.get("/api/" + path)
}

func TestAdminShowsRepair(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	first, second := pair(t, nil)
	second.ready()
	agree(t, first, second)
	if got := first.do("SYNC %s", second.at()); !strings.HasPrefix(got, "OK ") {
		t.Fatal(got)
	}
	for path, want := range map[string][]string{
		"syncs":   {`"peer":"node2"`, `"why":"command"`, `"outcome":"equal"`, `"sample":[]`},
		"peers":   {`"node_id":"node2"`, `"comparable":true`, `"own_root":"`, `"same_vector":true`},
		"epochs":  {`"root":"`, `"told":true`},
		"members": {`"node_id":"node1"`, `"node_id":"node2"`, `"self":true`},
	} {
		text := first.api(path)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %s in %s", path, w, text)
			}
		}
	}
	if got := second.api("syncs?n=1"); !strings.Contains(got, `"why":"served"`) || strings.Count(got, `"n":`) != 1 {
		t.Errorf("at the other end: %s", got)
	}
}

func TestReadinessNamesWhatKeepsNodesApart(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	first, second := pair(t, func(c *config.Config) { c.AntiEntropy.TombstoneGrace = 77; c.AntiEntropy.PeerList = nil })
	for n, want := range map[*running]string{
		first: "[!]peer node2 degraded: other parameters", second: "[!]peer node1 degraded: other parameters",
	} {
		said := ""
		poll.Until(t, patience, func() bool { said = n.readiness(); return strings.Contains(said, want) }, "readiness says ", want)
		if !strings.Contains(said, "tombstone_grace 77 s") {
			t.Errorf("which ones? %s", said)
		}
	}
	first.do("REPLICATE disable")
	poll.Until(t, patience, func() bool { return strings.Contains(first.readiness(), "[!]replication degraded") }, "readiness says that replication is paused")
	first.do("REPLICATE enable")
	poll.Until(t, patience, func() bool { return strings.Contains(first.readiness(), "[+]replication ok") }, "readiness says that it goes on")
}

func TestReloadOfRepair(t *testing.T) {
	first, second := pair(t, nil)
	second.ready()
	agree(t, first, second)
	c := testConfig("node1")
	c.AntiEntropy.Enabled, c.AntiEntropy.Interval = false, 7
	c.AntiEntropy.MaxConcurrentSyncs, c.AntiEntropy.MaxBytesPerSecond = 2, 123456
	first.Reload(c, []string{"anti_entropy.enabled"})
	got := first.RepairLimits()
	if got.Enabled || got.Interval != 7*time.Second || got.Concurrent != 2 || got.BytesPerSecond != 123456 {
		t.Errorf("after reload: %+v", got)
	}
	for _, tc := range []struct {
		from, to *running
	}{{first, second}, {second, first}} {
		if got := tc.from.do("SYNC %s", tc.to.at()); !strings.Contains(got, "repair is disabled") {
			t.Errorf("SYNC where repair is disabled: %s", got)
		}
	}
	c.AntiEntropy.Enabled = true
	first.Reload(c, []string{"anti_entropy.enabled"})
	for _, tc := range []struct {
		from, to *running
	}{{first, second}, {second, first}} {
		if got := tc.from.do("SYNC %s", tc.to.at()); !strings.HasPrefix(got, "OK ") {
			t.Errorf("SYNC after it was enabled again: %s", got)
		}
	}
}
