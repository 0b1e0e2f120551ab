package disk_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

var write = flag.Bool("write-golden", false, "write testdata/format1 anew; only when the format was never released")

// golden is what the journals in testdata hold: keys, a facet, a tombstone, an
// expiry, a key with zero bytes, a reserved entry.
func golden() []kv.Change {
	at := func(seq uint64, e kv.Entry) kv.Change {
		e.Version = kv.Version{HLC: hlc.At(1_800_000_000_000) + hlc.Timestamp(seq), Instance: 77}
		return kv.Change{Origin: 77, Seq: seq, Entry: e}
	}
	return []kv.Change{
		at(1, kv.Entry{Key: []byte("plain"), Value: []byte("value")}),
		at(2, kv.Entry{Key: []byte("gone"), Flags: kv.Tombstone}),
		at(3, kv.Entry{Key: []byte("brief"), Value: []byte("x"), Flags: kv.HasExpiry, ExpiresAt: 1_900_000_000_000}),
		at(4, kv.Entry{Key: []byte("a\x00b\x00"), Facet: []byte("c\x00"), Value: []byte{0, 255}}),
		at(5, kv.Entry{Facet: []byte("m|node1"), Value: []byte("member")}),
	}
}

// Journals that this format's first program left, one closed and one of a process
// that was killed, open for ever.
func TestJournalsOfTheFirstFormat(t *testing.T) {
	for _, name := range []string{"closed", "killed"} {
		t.Run(name, func(t *testing.T) {
			kept := filepath.Join("testdata", "format1", name)
			if *write {
				writeGolden(t, kept, name == "closed")
			}
			dir := filepath.Join(t.TempDir(), "journal")
			if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
				t.Fatal(err)
			}
			holdsGolden(t, open(t, dir, disk.Options{}))
		})
	}
}

func holdsGolden(t *testing.T, j journal.Journal) {
	t.Helper()
	want := make(map[string]string)
	for _, c := range golden() {
		want[namedAs(&c.Entry)] = shownAs(&c.Entry)
	}
	held := make(map[string]string)
	if err := j.Load(func(e *kv.Entry) error { held[namedAs(e)] = shownAs(e); return nil }); err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		if held[name] != content {
			t.Errorf("%s is %q, want %q", name, held[name], content)
		}
	}
	if len(held) != len(want) {
		t.Errorf("%d entries, want %d", len(held), len(want))
	}
	if got := j.Received(); len(got) != 1 || got[0] != (journal.Mark{Origin: 77, Seq: 5, Stamp: hlc.At(1_800_000_000_000) + 5}) {
		t.Errorf("received %v", got)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func namedAs(e *kv.Entry) string { return fmt.Sprintf("%q/%q", e.Key, e.Facet) }

func shownAs(e *kv.Entry) string {
	return fmt.Sprintf("%v %d %d %q", e.Version, e.Flags, e.ExpiresAt, e.Value)
}

// writeGolden makes a journal in a directory and leaves it closed, or as a killed
// process does.
func writeGolden(t *testing.T, dir string, closed bool) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(t.TempDir(), "journal")
	j := open(t, made, disk.Options{})
	for _, c := range golden() {
		if err := j.Wait(t.Context(), j.Append(&c)); err != nil {
			t.Fatal(err)
		}
	}
	if closed {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
		t.Fatal(err)
	}
	if !closed {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A journal that a newer engine wrote is refused by name, and stays as it is.
func TestJournalOfANewerEngine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "format1", "closed"))); err != nil {
		t.Fatal(err)
	}
	markers, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
	if err != nil || len(markers) != 1 {
		t.Fatalf("markers %q, %v", markers, err)
	}
	newer := filepath.Join(dir, "marker.format-version.000099.999")
	if err := os.Rename(markers[0], newer); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Open(dir, disk.Options{}); !errors.Is(err, disk.ErrNewer) {
		t.Fatalf("a journal of a newer engine: %v", err)
	}
	if err := os.Rename(newer, markers[0]); err != nil {
		t.Fatal(err)
	}
	holdsGolden(t, open(t, dir, disk.Options{}))
}
