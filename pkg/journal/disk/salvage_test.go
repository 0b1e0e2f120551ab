package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// tablesScene is a journal in tables, each of which has many blocks.
func tablesScene(t *testing.T) scene {
	files := vfs.NewCrashableMem()
	j := open(t, dirOf, disk.Options{FS: files})
	for seq := uint64(1); seq <= 3000; seq++ {
		e := kv.Entry{Key: fmt.Appendf(nil, "key%04d", seq), Value: valueOf(1, seq, 100), Version: kv.Version{HLC: hlc.Timestamp(seq), Instance: 1}}
		j.Append(&kv.Change{Origin: 1, Seq: seq, Entry: e})
	}
	mustDo(t, j.Close())
	return scene{files: files, want: mustContent(t, files, dirOf)}
}

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
				flipByte(t, files, table, r.Int64N(info.Size()-40_000)) // not in its index
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

// checkSaved checks that what was saved is what was written, with the vector, and
// that just the ranges in the report are missing.
func checkSaved(t *testing.T, got, want content, report disk.Report) {
	t.Helper()
	if int(report.Entries) != len(got.entries) {
		t.Errorf("%d entries are there, the report says %d", len(got.entries), report.Entries)
	}
	if got.marks[1] != want.marks[1] {
		t.Errorf("received %v, want %v", got.marks[1], want.marks[1])
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
func largestTable(t *testing.T, files vfs.FS) (table string) {
	t.Helper()
	names, err := files.List(dirOf)
	mustDo(t, err)
	var most int64
	for _, name := range names {
		path := files.PathJoin(dirOf, name)
		info, err := files.Stat(path)
		mustDo(t, err)
		if strings.HasSuffix(name, ".sst") && info.Size() > most {
			table, most = path, info.Size()
		}
	}
	return table
}

// TestSalvageWholeTable damages what a table cannot be read without. Salvage ends,
// and what it saves is right.
func TestSalvageWholeTable(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	table := largestTable(t, s.files)
	info, err := s.files.Stat(table)
	mustDo(t, err)
	flipByte(t, s.files, table, info.Size()-20)
	report, err := disk.Salvage(dirOf, disk.SalvageOptions{FS: s.files})
	mustDo(t, err)
	if len(report.Lost) == 0 {
		t.Error("the report knows of no loss")
	}
	j := open(t, dirOf, disk.Options{FS: s.files})
	mustDo(t, j.Wait(context.Background(), j.Append(writeOf(2, 1, 10, 10))))
	mustDo(t, j.Close())
}

// TestSalvageCrashes cuts the power while a journal is salvaged: the next start finds
// the old journal or the new one.
func TestSalvageCrashes(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	table := largestTable(t, s.files)
	flipByte(t, s.files, table, 10_000)
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
