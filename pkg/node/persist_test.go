package node_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"merklekv/pkg/config"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/node"
	"merklekv/pkg/volume"
)

// persistent is a node alone whose data outlives it.
func persistent(t *testing.T, id string) config.Config {
	c := testConfig(id)
	c.Broker.Enabled = true
	c.Storage.PersistenceEnabled, c.Storage.DataDir = true, t.TempDir()
	return c
}

func TestDataIsThereAfterARestart(t *testing.T) {
	for _, fsync := range []string{"always", "interval", "never"} {
		t.Run(fsync, func(t *testing.T) {
			c := persistent(t, "alone")
			c.Storage.Fsync = fsync
			n := start(t, c).ready()
			for i := range 100 {
				n.do("SET key%d value%d", i, i)
			}
			n.do("DEL key7")
			if got := strings.Join(n.report("INFO persistence"), "\n"); !strings.Contains(got, "fsync:"+fsync) {
				t.Errorf("INFO does not say %s: %s", fsync, got)
			}
			before := n.dump()
			version := n.Store().Greatest()
			if err := n.halt(); err != nil {
				t.Fatalf("a stopped node returned %v", err)
			}
			again := start(t, c).ready()
			if got := again.dump(); again.do("GET key7") != "(null)" || again.do("GET key99") != "value99" {
				t.Errorf("after the restart there is\n%s\nbefore it was\n%s", got, before)
			}
			again.do("SET key99 again")
			if v := again.Store().Greatest(); !version.Less(v) {
				t.Errorf("a write after the restart has version %v, one before had %v", v, version)
			}
		})
	}
}

func TestDataOfAnotherNodeIsRefused(t *testing.T) {
	c := persistent(t, "first")
	if err := start(t, c).ready().halt(); err != nil {
		t.Fatal(err)
	}
	c.NodeID = "second"
	_, err := node.New(t.Context(), node.Options{Config: c})
	var wrong *volume.WrongNodeError
	if !errors.As(err, &wrong) || wrong.OnDisk != "first" {
		t.Fatalf("data of another node: %v", err)
	}
	c.NodeID = "first"
	start(t, c).ready() // and nothing was left locked
	if _, err := node.New(t.Context(), node.Options{Config: c}); !errors.Is(err, volume.ErrInUse) {
		t.Fatalf("data that is in use: %v", err)
	}
}

func TestStartThatIsCalledOffLeavesNothingBehind(t *testing.T) {
	c := persistent(t, "alone")
	n := start(t, c).ready()
	for i := range 500 {
		n.do("SET key%d value", i)
	}
	if err := n.halt(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := fmt.Errorf("called off")
	cancel(why)
	if _, err := node.New(ctx, node.Options{Config: c}); err != nil && !errors.Is(err, why) {
		t.Fatalf("New whose context has ended: %v", err)
	} else if err == nil {
		t.Fatal("New whose context has ended succeeds")
	}
	if got := start(t, c).ready().do("DBSIZE"); got != "500" {
		t.Errorf("DBSIZE = %s", got)
	}
}

// A node whose journal has a damaged table starts with what can be read, and has the
// rest from its peer; what was deleted stays deleted.
func TestDamagedJournalIsMendedByPeers(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	first := persistent(t, "first")
	peer := start(t, first).ready()
	c := persistent(t, "second")
	c.Broker.Enabled, c.MQTT.BrokerAddress = false, peer.BrokerAddr().String()
	c.AntiEntropy.PeerList = []string{peer.Addr().String()}
	n := start(t, c).ready()
	for i := range 2000 {
		n.do("SET key%04d value%d", i, i)
	}
	n.do("DEL key0007")
	equal(t, n, peer)
	if err := n.halt(); err != nil {
		t.Fatal(err)
	}
	flipInLargestTable(t, c.Storage.DataDir)
	again := start(t, c).ready()
	// It serves nothing before it has everything: a key that is lost here reads as
	// absent, and what a client then writes would replace what the peer holds.
	if got := again.do("DBSIZE"); got != "1999" {
		t.Errorf("%s keys when it was ready, want 1999", got)
	}
	if said := again.readiness(); !strings.Contains(said, "it was damaged at the start") {
		t.Errorf("readiness does not tell of the damage:\n%s", said)
	}
	again.shows("key1999", "value1999")
	equal(t, again, peer)
	if got := again.do("GET key0007"); got != "(null)" {
		t.Errorf("a deleted key is %q again", got)
	}
	if err := again.halt(); err != nil {
		t.Fatal(err)
	}
	mended := start(t, c).ready() // what was mended is in the new journal
	equal(t, mended, peer)
}

// flipInLargestTable flips a byte in the middle of the journal's largest table.
func flipInLargestTable(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "journal", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	largest := slices.MaxFunc(tables, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
	content, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/3] ^= 0x20
	if err := os.WriteFile(largest, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A journal that cannot be opened is left as it is, and who starts the node learns
// what is safe and what to do.
func TestJournalThatCannotBeOpenedIsLeftAlone(t *testing.T) {
	c := persistent(t, "alone")
	n := start(t, c).ready()
	for i := range 100 {
		n.do("SET key%d value", i)
	}
	if err := n.halt(); err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Glob(filepath.Join(c.Storage.DataDir, "journal", "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifest: %v", err)
	}
	for _, name := range manifests {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = node.New(t.Context(), node.Options{Config: c})
	for _, want := range []string{"MANIFEST-", "The journal was left as it is", "merklekv data reseed --yes --data-dir " + c.Storage.DataDir} {
		if !errors.Is(err, disk.ErrDamaged) || !strings.Contains(err.Error(), want) {
			t.Errorf("a damaged journal: %v, which does not say %q", err, want)
		}
	}
}

// A journal that has lost the mark of a FLUSHDB is not opened: what the mark killed
// would be there again.
func TestFlushedKeysDoNotReturnFromADamagedJournal(t *testing.T) {
	c := persistent(t, "alone")
	n := start(t, c).ready()
	for i := range 2000 {
		n.do("SET key%04d value%d", i, i)
	}
	n.do("FLUSHDB")
	if err := n.halt(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(c.Storage.DataDir, "journal", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, name := range tables {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[20] ^= 1 // in the first block, where the reserved key's entries are
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := node.New(t.Context(), node.Options{Config: c}); !errors.Is(err, disk.ErrDamaged) || !strings.Contains(err.Error(), "data reseed --yes") {
		t.Errorf("a journal without its truncation mark: %v", err)
	}
}
