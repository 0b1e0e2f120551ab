package node_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"merklekv/pkg/admin"
	"merklekv/pkg/backup"
	"merklekv/pkg/config"
	"merklekv/pkg/internal/poll"
)

// backedUp makes a node keep its data and back it up, in directories of its own.
func backedUp(t *testing.T, c *config.Config) {
	c.Storage.PersistenceEnabled, c.Storage.DataDir = true, filepath.Join(t.TempDir(), "data")
	c.Storage.BackupDir = filepath.Join(t.TempDir(), "backups")
}

// backUp has a running node make a backup, and returns where it is.
func (r *running) backUp() string {
	r.t.Helper()
	response, err := http.Post("http://"+r.AdminAddr().String()+admin.BackupsPath, "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	last := ""
	for in := bufio.NewScanner(response.Body); in.Scan(); {
		last = in.Text()
	}
	_, rest, found := strings.Cut(last, `"path":"`)
	path, _, _ := strings.Cut(rest, `"`)
	if response.StatusCode != http.StatusOK || !found {
		r.t.Fatalf("no backup: %s %s", response.Status, last)
	}
	return path
}

// restore makes the data directory of a node out of a backup.
func restore(t *testing.T, from, dataDir, nodeID string) backup.Restored {
	t.Helper()
	done, err := backup.Restore(t.Context(), from, dataDir, nodeID, backup.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// writer writes to a few keys of its own over one connection, one operation after
// the other, and counts what was acknowledged.
type writer struct {
	id    int
	acked atomic.Int64 // operations, from the first on
}

const writerKeys = 10

// operation returns what a writer does as its nth operation: a value of the key, or
// nothing for a deletion.
func (w *writer) operation(n int64) (key, value string) {
	key = fmt.Sprintf("writer%d:%d", w.id, n%writerKeys)
	if n%7 == 6 {
		return key, ""
	}
	return key, fmt.Sprintf("value%d", n)
}

func (w *writer) run(address string, stop <-chan struct{}) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for n := int64(0); ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		request := "DEL %s\r\n"
		key, value := w.operation(n)
		if value != "" {
			request = "SET %s " + value + "\r\n"
		}
		if _, err := fmt.Fprintf(conn, request, key); err != nil {
			return err
		}
		if line, err := in.ReadString('\n'); err != nil || strings.HasPrefix(line, "ERROR") {
			return fmt.Errorf("%s: %q, %w", request, line, err)
		}
		w.acked.Add(1)
	}
}

// stateAfter returns what the writer's keys show after so many operations.
func (w *writer) stateAfter(n int64) string {
	values := make(map[string]string)
	for i := range n {
		key, value := w.operation(i)
		values[key] = value
	}
	var all []string
	for k := range writerKeys {
		value := values[fmt.Sprintf("writer%d:%d", w.id, k)]
		if value == "" {
			value = "(null)"
		}
		all = append(all, value)
	}
	return strings.Join(all, " ")
}

// shown returns what a node shows of the writer's keys.
func (w *writer) shown(r *running) string {
	var all []string
	for k := range writerKeys {
		all = append(all, r.do("GET writer%d:%d", w.id, k))
	}
	return strings.Join(all, " ")
}

// A backup made while clients write holds, of each of them, everything that was
// acknowledged before it began, and what came later up to some operation: a node
// made out of it is the node at one moment.
func TestBackupUnderLoad(t *testing.T) {
	c := testConfig("node1")
	c.Broker.Enabled = true
	backedUp(t, &c)
	n := start(t, c).ready()
	writers, stop := make([]writer, 8), make(chan struct{})
	var wg sync.WaitGroup
	for i := range writers {
		w := &writers[i]
		w.id = i
		wg.Go(func() {
			if err := w.run(n.Addr().String(), stop); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	acknowledged := func() (total int64) {
		for i := range writers {
			total += writers[i].acked.Load()
		}
		return total
	}
	poll.Until(t, patience, func() bool { return acknowledged() > 500 }, "clients write")
	before := make([]int64, len(writers))
	for i := range writers {
		before[i] = writers[i].acked.Load()
	}
	path := n.backUp()
	during := acknowledged()
	poll.Until(t, patience, func() bool { return acknowledged() > during+100 }, "clients go on")
	close(stop)
	wg.Wait()
	if err := n.halt(); err != nil {
		t.Fatal(err)
	}

	c = testConfig("another")
	c.Broker.Enabled = true
	c.Storage.PersistenceEnabled, c.Storage.DataDir = true, filepath.Join(t.TempDir(), "data")
	restore(t, path, c.Storage.DataDir, "another")
	restored := start(t, c).ready()
	for i := range writers {
		w := &writers[i]
		shown, at := w.shown(restored), int64(-1)
		for p := before[i]; p <= w.acked.Load(); p++ {
			if w.stateAfter(p) == shown {
				at = p
				break
			}
		}
		if at < 0 {
			t.Errorf("writer %d, of which %d operations of %d were acknowledged before: %s", i, before[i], w.acked.Load(), shown)
		}
	}
	if got := restored.do("SET written afterwards"); got != "OK" {
		t.Errorf("the restored node answers %s", got)
	}
}

// A node whose data is replaced by an older backup of it joins its cluster again:
// what was deleted since stays deleted, and nobody's write is lost, its own
// included.
func TestOldBackupInALivingCluster(t *testing.T) {
	var dirs []config.Storage
	nodes := cluster(t, func(c *config.Config) { backedUp(t, c); dirs = append(dirs, c.Storage) })
	for i := range 300 {
		nodes[i%3].do("SET key%d old%d", i, i)
	}
	equal(t, nodes...)
	path := nodes[2].backUp()

	for i := range 100 {
		nodes[i%3].do("DEL key%d", i)
		nodes[(i+1)%3].do("SET key%d new%d", 100+i, i)
		nodes[2].do("SET own%d value%d", i, i)
	}
	equal(t, nodes...)
	if err := nodes[2].halt(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		nodes[i%2].do("DEL own%d", i)
		nodes[i%2].do("SET meanwhile%d value%d", i, i)
	}
	if err := os.RemoveAll(dirs[2].DataDir); err != nil {
		t.Fatal(err)
	}
	restore(t, path, dirs[2].DataDir, "node3")

	c := testConfig("node3")
	c.MQTT.BrokerAddress = nodes[0].BrokerAddr().String()
	c.AntiEntropy.PeerList = []string{nodes[1].Addr().String()}
	c.Storage = dirs[2]
	again := start(t, c).ready()
	equal(t, nodes[0], nodes[1], again)
	for _, n := range []*running{nodes[0], nodes[1], again} {
		for i := range 100 {
			own := fmt.Sprintf("value%d", i)
			if i < 50 {
				own = "(null)"
				n.shows(fmt.Sprintf("meanwhile%d", i), fmt.Sprintf("value%d", i))
			}
			n.shows(fmt.Sprintf("key%d", i), "(null)")
			n.shows(fmt.Sprintf("key%d", 100+i), fmt.Sprintf("new%d", i))
			n.shows(fmt.Sprintf("key%d", 200+i), fmt.Sprintf("old%d", 200+i))
			n.shows(fmt.Sprintf("own%d", i), own)
		}
	}
	converged(t, nodes[0], nodes[1], again)
	if got := again.do("SET key0 again"); got != "OK" {
		t.Fatalf("SET: %s", got)
	}
	nodes[0].shows("key0", "again")
}

// converged waits until every node says that all are equal.
func converged(t *testing.T, nodes ...*running) {
	t.Helper()
	for _, n := range nodes {
		n.answers("CONVERGED", "EQUAL ")
	}
}

// A cluster that is gone comes back from the backup of one node: the others begin
// with the same backup under their own names, or with nothing.
func TestClusterFromOneBackup(t *testing.T) {
	nodes := cluster(t, func(c *config.Config) { backedUp(t, c) })
	for i := range 300 {
		nodes[i%3].do("SET key%d value%d", i, i)
	}
	for i := range 50 {
		nodes[0].do("DEL key%d", i)
	}
	equal(t, nodes...)
	want := nodes[1].Store().Stats().Keys
	path := nodes[1].backUp()
	for _, n := range nodes {
		if err := n.halt(); err != nil {
			t.Fatal(err)
		}
	}
	defer http.DefaultClient.CloseIdleConnections()
	again := cluster(t, func(c *config.Config) {
		backedUp(t, c)
		if c.NodeID != "node3" {
			restore(t, path, c.Storage.DataDir, c.NodeID)
		}
	})
	equal(t, again...)
	for i, n := range again {
		if got := n.Store().Stats().Keys; got != want {
			t.Errorf("node %d has %d keys, want %d", i+1, got, want)
		}
		n.shows("key7", "(null)")
		n.shows("key299", "value299")
		if said := n.readiness(); strings.Contains(said, "copy") || strings.Contains(said, "clone") {
			t.Errorf("node %d takes another one for a copy: %s", i+1, said)
		}
	}
	converged(t, again...)
	again[2].do("SET key0 again")
	again[0].shows("key0", "again")
}

func TestReadinessSaysThatBackupsFail(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	c := testConfig("node1")
	c.Broker.Enabled = true
	backedUp(t, &c)
	n := start(t, c).ready()
	if said := n.readiness(); !strings.Contains(said, "[+]backup ok") {
		t.Fatalf("before the first one: %s", said)
	}
	if got := n.get(admin.BackupsPath); got != "[]\n" {
		t.Fatalf("listed: %s", got)
	}
	n.backUp()
	if got := n.get(admin.BackupsPath); !strings.Contains(got, `"name":"node1-`) {
		t.Fatalf("listed: %s", got)
	}
	// The directory becomes a file.
	if err := os.RemoveAll(c.Storage.BackupDir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Storage.BackupDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	response, err := http.Post("http://"+n.AdminAddr().String()+admin.BackupsPath, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if said := n.readiness(); response.StatusCode != http.StatusInternalServerError || !strings.Contains(said, "[!]backup degraded: the last attempt failed") {
		t.Errorf("%s; %s", response.Status, said)
	}
}

func TestBackupsOfANodeThatMakesNone(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	c := testConfig("node1")
	c.Broker.Enabled = true
	n := start(t, c).ready()
	response, err := http.Post("http://"+n.AdminAddr().String()+admin.BackupsPath, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %s", response.Status)
	}
}

// A node stops while a backup is being made, and does not wait for it.
func TestStopWhileABackupIsMade(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	c := testConfig("node1")
	c.Broker.Enabled = true
	backedUp(t, &c)
	n := start(t, c).ready()
	for i := range 200 {
		n.do("SET key%d value", i)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				response, err := http.Post("http://"+n.AdminAddr().String()+admin.BackupsPath, "", nil)
				if err != nil {
					return // it has stopped
				}
				response.Body.Close()
			}
		})
	}
	poll.Until(t, patience, func() bool {
		list, err := backup.List(nil, c.Storage.BackupDir)
		return err == nil && len(list) > 0
	}, "a backup is made")
	if err := n.halt(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	wg.Wait()
	list, err := backup.List(nil, c.Storage.BackupDir)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d backups, %v", len(list), err)
	}
	for _, b := range list {
		if _, err := backup.Verify(t.Context(), b.Path, backup.VerifyOptions{}); err != nil {
			t.Error(err)
		}
	}
}
