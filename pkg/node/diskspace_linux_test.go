package node_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"merklekv/pkg/config"
	"merklekv/pkg/internal/diskspace"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/node"
)

// smallVolume mounts a file system of 96 MiB in memory and returns where.
func smallVolume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("merklekv-test", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("a small volume cannot be mounted here, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file of somebody else until no byte is left, and returns it.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "somebody-elses")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for len(buf) > 0 {
		if _, err := f.Write(buf); errors.Is(err, unix.ENOSPC) {
			buf = buf[:len(buf)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// readyz returns what /readyz says.
func (r *running) readyz() string {
	r.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get("http://" + r.AdminAddr().String() + "/readyz?verbose")
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

const diskFull = "ERROR: Read only: disk full"

// writeUntilFull writes keys of 64 KiB until they are refused, and returns how many
// were acknowledged. Once the disk was full no write is taken.
func writeUntilFull(t *testing.T, n *running) int {
	t.Helper()
	noise, bytes := rand.NewChaCha8([32]byte{1}), make([]byte, 48<<10)
	for i := range 5000 {
		_, _ = noise.Read(bytes) // so that nothing can be compressed
		switch got := n.do("SET big%d %s", i, base64.StdEncoding.EncodeToString(bytes)); got {
		case "OK":
		case diskFull:
			return i
		default:
			t.Fatalf("write %d: %s", i, got)
		}
	}
	t.Fatal("the disk does not fill")
	return 0
}

// A disk fills: by clients' writes, then to the brim by somebody else. Reads go on,
// writes are refused with the words of the specification, those of other nodes wait.
// When there is space again everything goes on by itself, and nothing that was
// acknowledged is lost by a restart.
func TestDiskFull(t *testing.T) {
	full, other := diskFullCluster(t)
	written := writeUntilFull(t, full.running)
	t.Logf("full after %d writes of 64 KiB", written)
	if written < 100 {
		t.Errorf("full after %d writes: most of the volume is kept in reserve", written)
	}
	if body := full.readyz(); !strings.Contains(body, "[!]disk degraded: ") || !strings.Contains(body, "MiB") {
		t.Errorf("/readyz says %s", body)
	}
	brim := fill(t, full.dataDir)
	for i := range 20 {
		if got := full.do("SET refused%d x", i); got != diskFull {
			t.Fatalf("a write at the brim: %s", got)
		}
		if got := other.do("SET elsewhere%d y", i); got != "OK" {
			t.Fatalf("a write on the node with space: %s", got)
		}
	}
	if got := full.do("DEL small"); got != diskFull {
		t.Errorf("DEL at the brim: %s", got)
	}
	if got := full.do("GET small"); got != "before" {
		t.Errorf("a read at the brim: %s", got)
	}
	if got := full.do("GET elsewhere0"); got != "(null)" {
		t.Errorf("an entry of another node was taken in at the brim: %s", got)
	}
	if err := os.Remove(brim); err != nil {
		t.Fatal(err)
	}
	// What clients wrote still fills the disk: deleting does not make room at once, so
	// more of it is what the operator gives.
	grow(t, full.dataDir)
	poll.Until(t, patience, func() bool { return full.do("SET again x") == "OK" }, "writes are taken again")
	full.shows("elsewhere19", "y")
	equal(t, full.running, other.running)
	if err := full.halt(); err != nil {
		t.Fatalf("the node stopped with %v", err)
	}
	back := start(t, full.config).ready()
	for i := range written {
		if got := back.do("EXISTS big%d", i); !strings.HasSuffix(got, "1") {
			t.Fatalf("acknowledged write %d is gone after the restart: %s", i, got)
		}
	}
	if back.do("GET small") != "before" || back.do("GET again") != "x" || back.do("GET refused0") != "(null)" {
		t.Error("the restart changed what there is")
	}
	equal(t, back, other.running)
}

// grow makes the volume twice as large.
func grow(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("merklekv-test", dir, "tmpfs", unix.MS_REMOUNT, "size=192m"); err != nil {
		t.Fatal(err)
	}
}

// onDisk is a node whose data is in a directory.
type onDisk struct {
	*running
	config  config.Config
	dataDir string
}

// diskFullCluster starts a node on a small volume and one with space.
func diskFullCluster(t *testing.T) (full, other onDisk) {
	t.Helper()
	first := persistent(t, "roomy")
	other = onDisk{start(t, first).ready(), first, first.Storage.DataDir}
	c := testConfig("full")
	c.MQTT.BrokerAddress = other.BrokerAddr().String()
	c.AntiEntropy.PeerList = []string{other.Addr().String()}
	volume := smallVolume(t)
	c.Storage.PersistenceEnabled, c.Storage.DataDir = true, filepath.Join(volume, "data")
	full = onDisk{start(t, c).ready(), c, volume}
	if got := full.do("SET small before"); got != "OK" {
		t.Fatal(got)
	}
	other.shows("small", "before")
	return full, other
}

// A disk that others fill at once, faster than anybody looks, while clients write:
// the journal's writes get the space in reserve, and the node goes on.
func TestDiskIsFilledAtOnce(t *testing.T) {
	full, other := diskFullCluster(t)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			if got := full.do("SET key%d value", n); got != "OK" {
				<-stop
				stopped <- n
				return
			}
		}
	}()
	brim := fill(t, full.dataDir)
	poll.Until(t, patience, func() bool { return full.do("SET refused x") == diskFull }, "writes are refused")
	close(stop)
	written := <-stopped
	if err := os.Remove(brim); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, patience, func() bool { return full.do("SET again x") == "OK" }, "writes are taken again")
	if err := full.halt(); err != nil {
		t.Fatalf("the node stopped with %v", err)
	}
	back := start(t, full.config).ready()
	for i := range written {
		if got := back.do("GET key%d", i); got != "value" {
			t.Fatalf("acknowledged write %d of %d is gone: %s", i, written, got)
		}
	}
	equal(t, back, other.running)
}

// A node starts on a full disk: it serves reads, refuses writes from the first on,
// and takes them when there is space.
func TestStartOnAFullDisk(t *testing.T) {
	full, _ := diskFullCluster(t)
	if err := full.halt(); err != nil {
		t.Fatal(err)
	}
	brim := fill(t, full.dataDir)
	back := start(t, full.config).ready()
	if got := back.do("GET small"); got != "before" {
		t.Errorf("a read: %s", got)
	}
	if got := back.do("SET k v"); got != diskFull {
		t.Errorf("the first write: %s", got)
	}
	if err := os.Remove(brim); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	poll.Until(t, patience, func() bool { return back.do("SET k v") == "OK" }, "writes are taken again")
	t.Log(fmt.Sprint("writes were taken again after ", time.Since(begin).Round(time.Millisecond)))
}

// A write of the journal that finds no byte, before anybody has looked, gets those in
// reserve.
func TestJournalWritesIntoTheReserve(t *testing.T) {
	dir := smallVolume(t)
	w, err := diskspace.Open(diskspace.Options{Dir: dir, Changed: func(bool) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	poll.Until(t, patience, func() bool { return w.State().Reserved }, "space is in reserve")
	cancel()
	<-done
	fill(t, dir)
	f, err := node.JournalFS(w).Create(filepath.Join(dir, "log"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil || !w.State().Full {
		t.Errorf("a write of the journal on a full disk: %v, %+v", err, w.State())
	}
}
