package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// tablesScene is a journal in tables, each of which has many blocks. The reserved key
// is in the first one.
func tablesScene(t *testing.T) scene {
	files := vfs.NewCrashableMem()
	fillTables(t, files, dirOf)
	return scene{files: files, want: mustContent(t, files, dirOf)}
}

func fillTables(t *testing.T, files vfs.FS, dir string) {
	t.Helper()
	j := open(t, dir, disk.Options{FS: files})
	j.Append(&kv.Change{Entry: kv.Entry{Facet: []byte("t"), Version: kv.Version{HLC: 1, Instance: 1}}})
	for seq := uint64(1); seq <= 3000; seq++ {
		e := kv.Entry{Key: fmt.Appendf(nil, "key%04d", seq), Value: valueOf(1, seq, 100), Version: kv.Version{HLC: hlc.Timestamp(seq), Instance: 1}}
		j.Append(&kv.Change{Origin: 1, Seq: seq, Entry: e})
	}
	mustDo(t, j.Close())
}

// firstBlocks is where no entry of the reserved key is any more in a table of
// tablesScene.
const firstBlocks = 16 << 10

// TestSalvage damages blocks of a table. All that lies outside is saved, nothing is
// made up, and the report says what is lost.
func TestSalvage(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	table := largestTable(t, s.files)
	for _, damaged := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(damaged), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			files := s.files.CrashClone(vfs.CrashCloneCfg{})
			info, err := files.Stat(table)
			mustDo(t, err)
			r := rand.New(rand.NewPCG(seed, 0))
			for range damaged {
				flipByte(t, files, table, firstBlocks+r.Int64N(info.Size()-firstBlocks-40_000)) // not in its index
			}
			mustBeDamaged(t, files)
			report, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: files})
			mustDo(t, err)
			got := mustContent(t, files, dirOf)
			checkSaved(t, got, s.want, report)
			if lost, most := len(s.want.entries)-len(got.entries), damaged*80; lost < 1 || lost > most {
				t.Errorf("%d entries are lost with %d blocks, want 1 to %d", lost, damaged, most)
			}
			if len(report.Files) != 1 || !strings.HasSuffix(table, files.PathBase(report.Files[0])) {
				t.Errorf("damaged files %q, want %q", report.Files, table)
			}
			if _, err := files.Stat(report.Aside); err != nil {
				t.Errorf("the old journal is gone: %v", err)
			}
		})
	}
}

func mustBeDamaged(t *testing.T, files vfs.FS) {
	t.Helper()
	j, err := disk.Open(dirOf, disk.Options{FS: files})
	if err == nil {
		_, err = contentOf(j)
		mustDo(t, j.Close())
	}
	if !errors.Is(err, disk.ErrDamaged) {
		t.Fatalf("the journal can be loaded: %v", err)
	}
}

// checkSaved checks that what was saved is what was written, with the vector if it is
// everything, and that just the ranges in the report are missing.
func checkSaved(t *testing.T, got, want content, report disk.Report) {
	t.Helper()
	if int(report.Entries) != len(got.entries) {
		t.Errorf("%d entries are there, the report says %d", len(got.entries), report.Entries)
	}
	received := want.marks
	if len(report.Lost) > 0 {
		received = nil
	}
	if !maps.Equal(got.marks, received) {
		t.Errorf("received %v, want %v", got.marks, received)
	}
	for name, value := range want.entries {
		key := []byte(strings.TrimSuffix(name, "/"))
		known := false
		for _, r := range report.Lost {
			known = known || bytes.Compare(r.From, key) <= 0 && (len(r.To) == 0 || bytes.Compare(key, r.To) <= 0)
		}
		if saved, ok := got.entries[name]; ok && saved != value || !ok && !known {
			t.Errorf("%s: saved %v as %.40q, want %.40q; reported as lost: %v", name, ok, saved, value, known)
		}
	}
}

// largestTable returns the path of the table with the most bytes.
func largestTable(t *testing.T, files vfs.FS) (table string) { return largestTableIn(t, files, dirOf) }

func largestTableIn(t *testing.T, files vfs.FS, dir string) (table string) {
	t.Helper()
	names, err := files.List(dir)
	mustDo(t, err)
	var most int64
	for _, name := range names {
		path := files.PathJoin(dir, name)
		info, err := files.Stat(path)
		mustDo(t, err)
		if strings.HasSuffix(name, ".sst") && info.Size() > most {
			table, most = path, info.Size()
		}
	}
	return table
}

// TestSalvageWhole salvages a journal that is not damaged: all of it is saved, with
// the vector.
func TestSalvageWhole(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	report, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: s.files})
	mustDo(t, err)
	checkSaved(t, mustContent(t, s.files, dirOf), s.want, report)
	if len(report.Lost) > 0 || len(report.Files) > 0 || len(s.want.marks) == 0 {
		t.Errorf("%+v, received %v", report, s.want.marks)
	}
}

// TestSalvageRefuses damages what tells old from new: nothing is saved then, and the
// journal stays as it is.
func TestSalvageRefuses(t *testing.T) {
	checkLeaks(t)
	tables := tablesScene(t)
	table := largestTable(t, tables.files)
	info, err := tables.files.Stat(table)
	mustDo(t, err)
	withScripts, unsettled := scriptsScene(t)
	for name, c := range map[string]struct {
		files *vfs.MemFS
		table string
		at    int64
		says  string
	}{
		"the block with the reserved key":   {tables.files, table, 20, "truncated"},
		"the end of the only table":         {tables.files, table, info.Size() - 20, "latest changes"},
		"scripts that are not settled":      {withScripts, unsettled, 10, "latest changes"},
		"the index of a table with scripts": {withScripts, unsettled, -20, "latest changes"},
	} {
		t.Run(name, func(t *testing.T) {
			files := c.files.CrashClone(vfs.CrashCloneCfg{})
			info, err := files.Stat(c.table)
			mustDo(t, err)
			flipByte(t, files, c.table, (c.at+info.Size())%info.Size())
			before := files.String()
			report, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: files})
			if !errors.Is(err, disk.ErrDamaged) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.table) {
				t.Errorf("%v, want an error that says %q and %q", err, c.says, c.table)
			}
			if report.Entries != 0 || report.Aside != "" {
				t.Errorf("the report speaks of what was saved: %+v", report)
			}
			if after := files.String(); after != before {
				t.Errorf("files were\n%s\nand are\n%s", before, after)
			}
			mustBeDamaged(t, files)
		})
	}
}

// scriptsScene is tablesScene with a table of groups that are not settled: the power
// failed, and did so again when the next start had just put its log in a table.
func scriptsScene(t *testing.T) (files *vfs.MemFS, table string) {
	s := tablesScene(t)
	j := open(t, dirOf, disk.Options{FS: s.files})
	for seq := uint64(3001); seq <= 3020; seq++ {
		mustDo(t, j.Wait(t.Context(), j.Append(writeOf(1, seq, 10, 100))))
	}
	files = s.files.CrashClone(vfs.CrashCloneCfg{})
	mustDo(t, j.Close())
	flushed := &firstFlush{files: files}
	mustDo(t, open(t, dirOf, disk.Options{FS: errorfs.Wrap(files, flushed)}).Close())
	return flushed.image, flushed.table
}

// firstFlush takes an image of files when a journal that is opened has put its log in
// a table and begins a new one.
type firstFlush struct {
	files *vfs.MemFS

	mu    sync.Mutex
	table string
	image *vfs.MemFS
}

func (*firstFlush) String() string { return "first flush" }

// MaybeError is part of errorfs.Injector.
func (f *firstFlush) MaybeError(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case op.Kind != errorfs.OpCreate || f.image != nil:
	case f.table == "" && strings.HasSuffix(op.Path, ".sst"):
		f.table = op.Path
	case strings.HasSuffix(op.Path, ".log"):
		f.image = f.files.CrashClone(vfs.CrashCloneCfg{})
	}
	return nil
}

// TestSalvageWithoutRoom salvages on a volume that is too small for a copy: the error
// says so, and nothing has changed.
func TestSalvageWithoutRoom(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	flipByte(t, s.files, largestTable(t, s.files), firstBlocks)
	before := s.files.String()
	_, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: volumeOf{s.files, 1 << 20}})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "1 MiB are free") {
		t.Errorf("%v, want an error that says how much is free", err)
	}
	if after := s.files.String(); after != before {
		t.Errorf("files were\n%s\nand are\n%s", before, after)
	}
	_, err = disk.Salvage(dirOf, disk.SalvageOptions{FS: volumeOf{s.files, 200 << 20}})
	mustDo(t, err)
}

// TestSalvageFails has a write to the copy and the renamings fail: nothing has changed
// then. A journal that failed leaves goroutines behind.
func TestSalvageFails(t *testing.T) {
	s := tablesScene(t)
	flipByte(t, s.files, largestTable(t, s.files), firstBlocks)
	write := errorfs.And(errorfs.Writes, errorfs.PathMatch("data/journal.salvaging/*.log"))
	renaming := func(from string) errorfs.Injector {
		return errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpRename && op.Path == from {
				return errorfs.ErrInjected
			}
			return nil
		})
	}
	for name, fails := range map[string]errorfs.Injector{
		"write":           errorfs.ErrInjected.If(write),
		"first renaming":  renaming("data/journal.salvaging"),
		"second renaming": renaming("data/journal"),
	} {
		t.Run(name, func(t *testing.T) {
			files := s.files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			before := files.String()
			_, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: errorfs.Wrap(files, fails)})
			if err == nil || !strings.Contains(err.Error(), "injected") || errors.Is(err, disk.ErrDamaged) {
				t.Errorf("%v, want %v", err, errorfs.ErrInjected)
			}
			if after := files.String(); after != before {
				t.Errorf("files were\n%s\nand are\n%s", before, after)
			}
		})
	}
}

// volumeOf is files on a large volume with so many bytes free.
type volumeOf struct {
	vfs.FS
	free uint64
}

func (v volumeOf) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{TotalBytes: 1 << 40, AvailBytes: v.free}, nil
}

// TestSalvageKilled ends the process while a journal is salvaged, on the system's
// files: the next attempt succeeds, and leaves nothing of the first one.
func TestSalvageKilled(t *testing.T) {
	checkLeaks(t)
	for renamings := range 3 {
		t.Run(fmt.Sprintf("after %d renamings", renamings), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			fillTables(t, vfs.Default, dir)
			want := mustContent(t, vfs.Default, dir)
			flipByte(t, vfs.Default, largestTableIn(t, vfs.Default, dir), firstBlocks)
			killed := &killedFS{FS: vfs.Default, renamings: renamings}
			if _, err := disk.Salvage(dir, disk.SalvageOptions{FS: killed}); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			report, err := disk.Salvage(dir, disk.SalvageOptions{})
			mustDo(t, err)
			if renamings < 2 {
				checkSaved(t, mustContent(t, vfs.Default, dir), want, report)
			} else if len(report.Lost) > 0 { // of what was salvaged already
				t.Errorf("%+v", report)
			}
			for _, suffix := range []string{".salvaging", ".salvaged"} {
				if _, err := os.Stat(dir + suffix); err == nil {
					t.Errorf("%s is left", suffix)
				}
			}
		})
	}
}

var errKilled = errors.New("killed")

// killedFS does nothing to directories beside a journal any more after so many of
// them were renamed.
type killedFS struct {
	vfs.FS
	renamings int
	killed    bool
}

func (k *killedFS) Rename(from, to string) error {
	if filepath.Dir(from) != filepath.Dir(to) || !strings.HasPrefix(filepath.Base(to), "journal") {
		return k.FS.Rename(from, to)
	}
	if k.killed = k.killed || k.renamings == 0; k.killed {
		return errKilled
	}
	k.renamings--
	return k.FS.Rename(from, to)
}

func (k *killedFS) RemoveAll(name string) error {
	if k.killed {
		return errKilled
	}
	return k.FS.RemoveAll(name)
}

// TestSalvageCrashes cuts the power while a journal is salvaged: the next start finds
// the old journal or the new one.
func TestSalvageCrashes(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	table := largestTable(t, s.files)
	flipByte(t, s.files, table, firstBlocks)
	s.files = s.files.CrashClone(vfs.CrashCloneCfg{}) // with the damage on the disk
	var images []*vfs.MemFS
	watched := &renames{FS: s.files, before: func() { images = append(images, s.files.CrashClone(vfs.CrashCloneCfg{})) }}
	report, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: watched})
	mustDo(t, err)
	images = append(images, s.files.CrashClone(vfs.CrashCloneCfg{}))
	for i, image := range images {
		j, err := disk.Open(dirOf, disk.Options{FS: image})
		if err != nil {
			t.Fatalf("image %d: %v", i, err)
		}
		got, err := contentOf(j)
		mustDo(t, j.Close())
		if err == nil {
			checkSaved(t, got, s.want, report)
		} else if !errors.Is(err, disk.ErrDamaged) {
			t.Errorf("image %d: %v", i, err)
		}
	}
}

// renames calls before in front of each renaming of a directory of these tests.
type renames struct {
	vfs.FS
	before func()
}

func (r *renames) Rename(from, to string) error {
	if strings.HasPrefix(from, dirOf) && !strings.Contains(strings.TrimPrefix(from, dirOf), "/") {
		r.before()
	}
	return r.FS.Rename(from, to)
}
