package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/backup"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

func TestCreateListVerify(t *testing.T) {
	files := vfs.NewMem()
	j := newJournal(t, files)
	defer j.Close()
	o := options(files, 3, clock())
	var last, total int64
	o.Progress = func(done, all int64) {
		if done < last || done > all {
			t.Errorf("progress goes from %d to %d of %d", last, done, all)
		}
		last, total = done, all
	}
	m := create(t, j, o)
	if last != total || total != 3*m.Bytes {
		t.Errorf("progress ends with %d of %d", last, total)
	}
	if m.Name() != "node1-20261122T120000.000Z" || m.NodeID != "node1" || m.Program != "1.2.3" || m.Volume != 0xABC || !m.Created.Equal(noon) {
		t.Errorf("manifest %+v", m)
	}
	write(t, j, value("written later", 30))
	got, err := backup.Verify(t.Context(), "backups/"+m.Name(), backup.VerifyOptions{FS: files})
	if err != nil || got.Contents != m.Contents || !slices.Equal(got.Files, m.Files) || got.Checksum != m.Checksum {
		t.Errorf("verified %+v, %v; made %+v", got, err, m)
	}
	list, err := backup.List(files, "backups")
	if err != nil || len(list) != 1 || list[0].Name != m.Name() || list[0].Err != nil || list[0].Manifest.Root != m.Root {
		t.Errorf("listed %+v, %v", list, err)
	}
	if got := names(t, files, "backups/"+m.Name()); !slices.Equal(got, []string{"backup.json", "journal"}) {
		t.Errorf("the backup holds %q", got)
	}
}

func TestListOfNothing(t *testing.T) {
	if list, err := backup.List(vfs.NewMem(), "nowhere"); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

// The contents are what the documentation says, by another way than the code's.
func TestContents(t *testing.T) {
	for name, entries := range map[string][]kv.Entry{
		"nothing":           nil,
		"a little of all":   sample(),
		"without a mark":    slices.DeleteFunc(sample(), func(e kv.Entry) bool { return string(e.Facet) == "t" }),
		"all is dead":       {value("a", 1), value("b", 2), reserved("t", 3)},
		"dead by a second":  {expiring("a", 1, 5), value("b", 5)},
		"alive by a second": {expiring("a", 1, 6), value("b", 5)},
	} {
		t.Run(name, func(t *testing.T) {
			files := vfs.NewMem()
			if err := files.MkdirAll("data", 0o700); err != nil {
				t.Fatal(err)
			}
			j := openJournal(t, files)
			defer j.Close()
			write(t, j, entries...)
			m := create(t, j, options(files, 1, clock()))
			want := contentsOf(entries)
			if m.Contents != want {
				t.Errorf("contents %+v, want %+v", m.Contents, want)
			}
			if err := verify(files, m.Name()); err != nil {
				t.Error(err)
			}
		})
	}
}

// contentsOf says in other words what the contents of entries are.
func contentsOf(entries []kv.Entry) backup.Contents {
	var mark, greatest kv.Version
	for _, e := range entries {
		if greatest.Less(e.Version) {
			greatest = e.Version
		}
		if e.IsReserved() && string(e.Facet) == "t" {
			mark = e.Version
		}
	}
	var updates []merkle.Update
	for _, e := range entries {
		killed := !e.IsReserved() && !mark.Less(e.Version)
		expired := e.Flags&kv.HasExpiry != 0 && e.ExpiresAt < (greatest.Epoch()+1)*1000
		if !killed && !expired {
			updates = append(updates, merkle.Update{Key: e.Key, Facet: e.Facet, Tag: merkle.TagOf(&e)})
		}
	}
	slices.SortFunc(updates, func(a, b merkle.Update) int { return merkle.CompareNames(a.Key, a.Facet, b.Key, b.Facet) })
	return backup.Contents{
		Entries: int64(len(entries)), Covered: int64(len(updates)), Root: backup.Root(merkle.Tree{}.Apply(updates).Root()),
		Epoch: greatest.Epoch(), Version: backup.Version(greatest),
	}
}

func TestCreateRefusesNonsense(t *testing.T) {
	files := vfs.NewMem()
	for name, change := range map[string]func(*backup.Options){
		"no directory": func(o *backup.Options) { o.Dir = "" },
		"no node":      func(o *backup.Options) { o.NodeID = "" },
		"a path":       func(o *backup.Options) { o.NodeID = "../x" },
		"keep nothing": func(o *backup.Options) { o.Keep = 0 },
	} {
		o := options(files, 1, clock())
		change(&o)
		if _, err := backup.Create(t.Context(), nil, o); err == nil {
			t.Errorf("%s: a backup is made", name)
		}
	}
}

// source is a Source that does what a test says.
type source func(dir string) error

func (s source) Checkpoint(dir string) error { return s(dir) }

func TestCreateThatFailsLeavesNothing(t *testing.T) {
	files := vfs.NewMem()
	j := newJournal(t, files)
	defer j.Close()
	o := options(files, 1, clock())
	first := create(t, j, o)
	broken := errors.New("broken")
	if _, err := backup.Create(t.Context(), source(func(string) error { return broken }), o); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := backup.Create(ctx, source(func(dir string) error { cancel(); return j.Checkpoint(dir) }), o); !errors.Is(err, context.Canceled) {
		t.Errorf("a backup that was given up: %v", err)
	}
	if got := names(t, files, "backups"); !slices.Equal(got, []string{first.Name()}) {
		t.Errorf("there are %q", got)
	}
	if err := verify(files, first.Name()); err != nil {
		t.Error(err)
	}
}

// On the disk of the data no backup is begun that would leave too little for the
// journal, and none is finished that has.
func TestBackupLeavesRoomForTheJournal(t *testing.T) {
	const gib = 1 << 30
	files := vfs.NewMem()
	j := newJournal(t, files)
	defer j.Close()
	o := options(files, 2, clock())
	o.DataDir = "data"
	free := func(bytes uint64) { files.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: bytes, TotalBytes: 100 * gib}) }
	free(50 * gib)
	first := create(t, j, o)
	free(512 << 20)
	untouched := source(func(string) error { t.Error("a copy is made"); return nil })
	if _, err := backup.Create(t.Context(), untouched, o); !errors.Is(err, backup.ErrNoRoom) {
		t.Errorf("on a disk that is nearly full: %v", err)
	}
	free(50 * gib)
	fills := source(func(dir string) error { free(512 << 20); return j.Checkpoint(dir) })
	if _, err := backup.Create(t.Context(), fills, o); !errors.Is(err, backup.ErrNoRoom) {
		t.Errorf("that fills the disk: %v", err)
	}
	if got := names(t, files, "backups"); !slices.Equal(got, []string{first.Name()}) {
		t.Errorf("there are %q", got)
	}
	o.DataDir = "" // on another disk, nobody else needs the space
	create(t, j, o)
}

func TestTwoBackupsOfOneMoment(t *testing.T) {
	files := vfs.NewMem()
	j := newJournal(t, files)
	defer j.Close()
	o := options(files, 5, func() time.Time { return noon })
	first, second := create(t, j, o), create(t, j, o)
	if first.Name() == second.Name() || !second.Created.After(first.Created) {
		t.Errorf("%s and %s", first.Name(), second.Name())
	}
}

// Every flipped byte, and every missing, cut, longer or
// additional file, is found.
func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	files := vfs.NewMem()
	j := newJournal(t, files)
	m := create(t, j, options(files, 1, clock()))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	dir := "backups/" + m.Name()
	paths := []string{dir + "/backup.json"}
	for _, f := range m.Files {
		paths = append(paths, dir+"/journal/"+f.Name)
	}
	seed, flipped := rand.Uint64(), 0
	for _, path := range paths {
		data := content(t, files, path)
		damagedBy := func(what string, changed []byte) {
			t.Helper()
			put(t, files, path, changed)
			err := verify(files, m.Name())
			if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNewerFormat) {
				t.Fatalf("%s: %s: %v", path, what, err)
			}
		}
		for i := range data {
			changed := bytes.Clone(data)
			changed[i] ^= []byte{0x01, 0x20, 0xff}[(i+int(seed%3))%3]
			damagedBy(fmt.Sprintf("seed %d: flipped byte %d", seed, i), changed)
			flipped++
		}
		damagedBy("one byte more", append(bytes.Clone(data), 0))
		if len(data) > 0 {
			damagedBy("one byte less", data[:len(data)-1])
		}
		if err := files.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := verify(files, m.Name()); !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNoBackup) {
			t.Fatalf("without %s: %v", path, err)
		}
		put(t, files, path, data)
	}
	put(t, files, dir+"/journal/000099.sst", nil)
	if err := verify(files, m.Name()); !errors.Is(err, backup.ErrDamaged) {
		t.Fatalf("with one file more: %v", err)
	}
	if err := files.Remove(dir + "/journal/000099.sst"); err != nil {
		t.Fatal(err)
	}
	if err := verify(files, m.Name()); err != nil {
		t.Fatalf("whole again: %v", err)
	}
	if flipped < 1000 {
		t.Errorf("only %d flips: this backup is too small to say anything", flipped)
	}
}

// A manifest that was made anew around other entries is found by reading them.
func TestVerifyReadsTheEntries(t *testing.T) {
	files := vfs.NewMem()
	j := newJournal(t, files)
	defer j.Close()
	o := options(files, 5, clock())
	first := create(t, j, o)
	write(t, j, value("one more", 40))
	second := create(t, j, o)
	// The first one's journal under a manifest that names its files and the second
	// one's contents.
	first.Contents = second.Contents
	put(t, files, "backups/"+first.Name()+"/backup.json", backup.EncodeManifest(t, first))
	if err := verify(files, first.Name()); !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), "entries") {
		t.Errorf("got %v", err)
	}
}

func content(t testing.TB, files vfs.FS, path string) []byte {
	t.Helper()
	f, err := files.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t testing.TB, files vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := files.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
