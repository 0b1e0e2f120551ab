package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/volume"
)

// dataDirectory is a data directory of n1 with something for a journal.
func dataDirectory(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	v, err := volume.Open(dir, "n1", volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(hlc.At(1_700_000_000_000) + 3); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(v.JournalDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(v.JournalDir(), "1.log"), strings.Repeat("x", 2048))
	return dir
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// says runs a command and checks its exit code and that all of wants are in what it
// prints.
func says(t *testing.T, wantCode int, wants []string, environ []string, args ...string) string {
	t.Helper()
	code, stdout, stderr := invoke(t, environ, args...)
	all := stdout + stderr
	if code != wantCode {
		t.Errorf("%q: exit %d, want %d: %s", args, code, wantCode, all)
	}
	for _, want := range wants {
		if !strings.Contains(all, want) {
			t.Errorf("%q: no %q in\n%s", args, want, all)
		}
	}
	return all
}

func TestDataInfo(t *testing.T) {
	dir := dataDirectory(t)
	info, err := volume.Inspect(vfs.Default, dir)
	if err != nil {
		t.Fatal(err)
	}
	wants := []string{dir, "n1", "format     1", info.Created.Format("2006-01-02T15:04:05Z"), "no timestamp above 2023-11-14T22:13:20.000Z+3", "2.0 KiB in"}
	got := says(t, exitOK, wants, nil, "data", "info", "--data-dir", dir)
	if !regexp.MustCompile(`(?m)^volume +[0-9a-f]{16}$`).MatchString(got) {
		t.Errorf("no volume id in\n%s", got)
	}
	says(t, exitOK, wants, nil, "data", "info", "--config", writeFile(t, "storage.data_dir = \""+dir+"\"\n"))
	says(t, exitOK, wants, []string{"MERKLE_KV_STORAGE_DATA_DIR=" + dir}, "data", "info")

	put(t, filepath.Join(dir, "clock"), "junk")
	says(t, exitDamaged, []string{"n1", "none is known", "clock: its checksum"}, nil, "data", "info", "--data-dir", dir)
	put(t, filepath.Join(dir, "volume.json"), "junk")
	says(t, exitDamaged, []string{"volume.json: its checksum", "data rename NODE_ID"}, nil, "data", "info", "--data-dir", dir)
}

func TestDataNeedsADataDirectory(t *testing.T) {
	strange, absent := t.TempDir(), filepath.Join(t.TempDir(), "absent")
	put(t, filepath.Join(strange, "letters"), "")
	for _, dir := range []string{strange, absent} {
		says(t, exitUsage, []string{"--data-dir"}, nil, "data", "info", "--data-dir", dir)
		says(t, exitUsage, []string{"--data-dir"}, nil, "data", "rename", "n2", "--data-dir", dir)
		says(t, exitUsage, []string{"--data-dir"}, nil, "data", "reseed", "--data-dir", dir)
	}
	says(t, exitUsage, []string{"info, rename or reseed"}, nil, "data")
	says(t, exitUsage, []string{"accepts 1 arg"}, nil, "data", "rename")
}

func TestDataRename(t *testing.T) {
	dir := dataDirectory(t)
	whose := func() (string, uint64) {
		info, err := volume.Inspect(vfs.Default, dir)
		if err != nil {
			t.Fatal(err)
		}
		return info.NodeID, info.ID
	}
	_, id := whose()
	says(t, exitUsage, []string{"data of node n1", "node n2", "--yes"}, nil, "data", "rename", "n2", "--data-dir", dir)
	if node, same := whose(); node != "n1" || same != id {
		t.Fatalf("renamed to %s without --yes", node)
	}
	says(t, exitOK, []string{"n2", dir}, nil, "data", "rename", "n2", "--data-dir", dir, "--yes")
	if node, other := whose(); node != "n2" || other == id {
		t.Errorf("the data is %s's, volume %x, which was %x", node, other, id)
	}
	says(t, exitFailure, []string{"not a node_id"}, nil, "data", "rename", "n 2", "--data-dir", dir, "--yes")

	put(t, filepath.Join(dir, "volume.json"), "junk")
	says(t, exitUsage, []string{"cannot be read", "--yes"}, nil, "data", "rename", "n3", "--data-dir", dir)
	says(t, exitOK, nil, nil, "data", "rename", "n3", "--data-dir", dir, "--yes")
	if err := os.Remove(filepath.Join(dir, "volume.json")); err != nil {
		t.Fatal(err)
	}
	says(t, exitOK, nil, nil, "data", "rename", "n4", "--data-dir", dir, "--yes")
	if node, _ := whose(); node != "n4" {
		t.Errorf("a lost identity was written for %s", node)
	}
}

func TestDataReseed(t *testing.T) {
	dir := dataDirectory(t)
	journal := filepath.Join(dir, "journal")
	says(t, exitUsage, []string{"journal of node n1", "2.0 KiB", "peers", "--yes"}, nil, "data", "reseed", "--data-dir", dir)
	if _, err := os.Stat(journal); err != nil {
		t.Fatalf("without --yes: %v", err)
	}
	says(t, exitOK, []string{"journal.damaged-", "peers"}, nil, "data", "reseed", "--data-dir", dir, "--yes")
	if _, err := os.Stat(journal); !os.IsNotExist(err) {
		t.Errorf("the journal: %v", err)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "journal.damaged-*", "1.log"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept %q, %v", kept, err)
	}
	says(t, exitOK, []string{"none", "set aside  " + filepath.Dir(kept[0])}, nil, "data", "info", "--data-dir", dir)
	says(t, exitFailure, []string{"has no journal"}, nil, "data", "reseed", "--data-dir", dir, "--yes")
}

func TestDataThatIsInUseStays(t *testing.T) {
	dir := dataDirectory(t)
	v, err := volume.Open(dir, "n1", volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	says(t, exitFailure, []string{"in use", dir}, nil, "data", "reseed", "--data-dir", dir, "--yes")
	says(t, exitFailure, []string{"in use", dir}, nil, "data", "rename", "n2", "--data-dir", dir, "--yes")
	says(t, exitOK, []string{"n1"}, nil, "data", "info", "--data-dir", dir)
	if err := v.Close(v.Bound()); err != nil {
		t.Fatal(err)
	}
}
