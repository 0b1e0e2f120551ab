package volume

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/durable"
)

func TestInspect(t *testing.T) {
	mem := vfs.NewMem()
	if _, err := Inspect(mem, "absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	fill(t, mem, "empty", nil)
	if _, err := Inspect(mem, "empty"); !errors.Is(err, ErrNotVolume) {
		t.Errorf("empty: %v", err)
	}
	v := mustOpen(t, mem, "d", "n1")
	mustClose(t, v, hlc.At(77))
	fill(t, mem, "d/journal/wal", map[string]string{"1.log": "12345"})
	fill(t, mem, "d/journal", map[string]string{"2.sst": "123"})
	fill(t, mem, "d/journal.damaged-20260102T030405Z", nil)
	got, err := Inspect(mem, "d")
	if err != nil {
		t.Fatal(err)
	}
	if got.Format != 1 || got.NodeID != "n1" || got.ID != v.ID() || got.Bound != hlc.At(77) || got.JournalBytes != 8 ||
		len(got.Aside) != 1 || got.Aside[0] != "journal.damaged-20260102T030405Z" || time.Since(got.Created) > time.Hour {
		t.Errorf("got %+v", got)
	}
	fill(t, mem, "d", map[string]string{clockName: "junk"})
	if got, err := Inspect(mem, "d"); !errors.Is(err, ErrDamaged) || got.NodeID != "n1" || got.JournalBytes != 8 {
		t.Errorf("damaged clock: %+v, %v", got, err)
	}
}

func TestCreate(t *testing.T) {
	mem := vfs.NewMem()
	fill(t, mem, "d/journal", map[string]string{"1.log": "12345"})
	if err := Create(mem, "d", "n1"); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, mem, "d", "n1"), 0)
	if err := Create(mem, "d", "n2"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second identity: %v", err)
	}
	if err := Create(mem, "fresh/deep", "n1"); err != nil {
		t.Error(err)
	}
	if err := Create(mem, "e", "not a node id"); err == nil {
		t.Error("took a bad node_id")
	}
}

func TestRename(t *testing.T) {
	mem := vfs.NewMem()
	v := mustOpen(t, mem, "d", "n1")
	id := v.ID()
	mustClose(t, v, hlc.At(77))
	before, err := Inspect(mem, "d")
	if err != nil {
		t.Fatal(err)
	}
	rename := func(nodeID string) Info {
		t.Helper()
		if err := Rename(mem, "d", nodeID); err != nil {
			t.Fatal(err)
		}
		info, err := Inspect(mem, "d")
		if err != nil || info.NodeID != nodeID || info.ID == id || info.Bound != hlc.At(77) {
			t.Errorf("renamed to %s: %+v, %v", nodeID, info, err)
		}
		id = info.ID
		return info
	}
	if after := rename("n2"); !after.Created.Equal(before.Created) {
		t.Errorf("created %v became %v", before.Created, after.Created)
	}
	rename("n2") // a copy for the same node
	fill(t, mem, "d", map[string]string{identityName: "junk"})
	rename("n3")
	fill(t, mem, "d", map[string]string{"journal/": ""})
	if err := mem.Remove("d/" + identityName); err != nil {
		t.Fatal(err)
	}
	rename("n4")

	fill(t, mem, "strange", map[string]string{"letters": ""})
	for _, dir := range []string{"strange", "absent"} {
		if err := Rename(mem, dir, "n1"); err == nil {
			t.Errorf("%s got an identity", dir)
		}
	}
	if err := Rename(mem, "d", "a b"); err == nil {
		t.Error("took a bad node_id")
	}
}

func TestReseed(t *testing.T) {
	mem := vfs.NewCrashableMem()
	mustClose(t, mustOpen(t, mem, "d", "n1"), hlc.At(77))
	if _, err := Reseed(mem, "d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a journal: %v", err)
	}
	var asides []string
	for _, content := range []string{"1", "22"} { // within one second, as good as surely
		fill(t, mem, "d/journal", map[string]string{"1.log": content})
		for _, dir := range []string{"d/journal", "d"} {
			if err := durable.SyncDir(mem, dir); err != nil {
				t.Fatal(err)
			}
		}
		aside, err := Reseed(mem, "d")
		if err != nil || !strings.HasPrefix(aside, "d/journal.damaged-2") {
			t.Fatalf("%q, %v", aside, err)
		}
		asides = append(asides, aside)
		after := mem.CrashClone(vfs.CrashCloneCfg{})
		if there, _ := exists(after, "d/journal"); there {
			t.Error("the journal is back after a power failure")
		}
		if data, err := read(after, aside+"/1.log"); err != nil || string(data) != content {
			t.Errorf("set aside: %q, %v", data, err)
		}
	}
	if asides[0] == asides[1] {
		t.Errorf("one name for two: %q", asides)
	}
	if info, err := Inspect(mem, "d"); err != nil || info.Bound != hlc.At(77) || len(info.Aside) != 2 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := Reseed(mem, "absent"); err == nil {
		t.Error("reseeded what is not there")
	}
}

// Salvaging that was broken off leaves copies beside the journal, or the new journal
// beside none. Reseed sets aside what the next start would have opened, and nothing
// is left that it could take for a journal.
func TestReseedAfterBrokenSalvage(t *testing.T) {
	for name, c := range map[string]struct {
		there []string
		aside string // which one
	}{
		"unfinished":           {[]string{"journal", "journal.salvaging"}, "journal"},
		"not in its place yet": {[]string{"journal", "journal.salvaged"}, "journal"},
		"the old one is aside": {[]string{"journal.salvaged", "journal.damaged-20260102T030405.678Z"}, "journal.salvaged"},
		"all":                  {[]string{"journal", "journal.salvaging", "journal.salvaged"}, "journal"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustClose(t, mustOpen(t, vfs.Default, dir, "n1"), hlc.At(77))
			for _, name := range c.there {
				fill(t, vfs.Default, vfs.Default.PathJoin(dir, name), map[string]string{"1.log": name})
			}
			aside, err := Reseed(vfs.Default, dir)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := read(vfs.Default, vfs.Default.PathJoin(aside, "1.log")); err != nil || string(data) != c.aside {
				t.Errorf("set aside is %q, %v, want %q", data, err, c.aside)
			}
			for _, name := range []string{"journal", "journal.salvaging", "journal.salvaged"} {
				if there, err := exists(vfs.Default, vfs.Default.PathJoin(dir, name)); err != nil || there {
					t.Errorf("%s is there: %v, %v", name, there, err)
				}
			}
		})
	}
}
