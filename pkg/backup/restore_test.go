package backup_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"merklekv/pkg/backup"
	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/durable"
	"merklekv/pkg/kv"
	"merklekv/pkg/volume"
)

// backedUp returns a file system with one backup of the sample.
func backedUp(t testing.TB, files *vfs.MemFS) backup.Manifest {
	t.Helper()
	j := newJournal(t, files)
	m := create(t, j, options(files, 3, clock()))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

func restore(files vfs.FS, m *backup.Manifest, nodeID string, o backup.RestoreOptions) (backup.Restored, error) {
	o.FS = files
	return backup.Restore(background, "backups/"+m.Name(), "restored", nodeID, o)
}

// openVolume opens the restored volume and closes it again.
func openVolume(files vfs.FS, nodeID string) (id uint64, bound hlc.Timestamp, err error) {
	v, err := volume.Open("restored", nodeID, volume.Options{FS: files})
	if err != nil {
		return 0, 0, err
	}
	return v.ID(), v.Bound(), v.Close(v.Bound())
}

func TestRestore(t *testing.T) {
	files := vfs.NewMem()
	m := backedUp(t, files)
	want := dump(t, files, "backups/"+m.Name()+"/journal")
	for _, nodeID := range []string{"node1", "node9"} {
		var last, total int64
		done, err := restore(files, &m, nodeID, backup.RestoreOptions{Progress: func(done, all int64) {
			if done < last || done > all || total > 0 && all != total {
				t.Errorf("progress goes from %d of %d to %d of %d", last, total, done, all)
			}
			last, total = done, all
		}})
		if err != nil || done.Contents != m.Contents || done.Left != 0 || last != total {
			t.Fatalf("restored %+v, %v; %d of %d", done, err, last, total)
		}
		if got := dump(t, files, "restored/journal"); got != want {
			t.Errorf("restored\n%s\nwant\n%s", got, want)
		}
		id, bound, err := openVolume(files, nodeID)
		if err != nil || id == 0 || id == uint64(m.Volume) || bound != m.Version.HLC {
			t.Errorf("volume %x with bound %v, %v", id, bound, err)
		}
		if err := files.RemoveAll("restored"); err != nil {
			t.Fatal(err)
		}
	}
}

// For another cluster the journal is written anew, without the members.
func TestRestoreWithoutSomeEntries(t *testing.T) {
	files := vfs.NewMem()
	m := backedUp(t, files)
	isMember := func(e *kv.Entry) bool { return e.IsReserved() && strings.HasPrefix(string(e.Facet), "m") }
	done, err := restore(files, &m, "node1", backup.RestoreOptions{Leave: isMember})
	if err != nil || done.Left != 2 {
		t.Fatalf("%d left out, %v", done.Left, err)
	}
	want := slices.DeleteFunc(strings.Split(dump(t, files, "backups/"+m.Name()+"/journal"), "\n"),
		func(line string) bool { return strings.HasPrefix(line, `""/"m`) })
	if got := dump(t, files, "restored/journal"); got != strings.Join(want, "\n") {
		t.Errorf("restored\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if _, bound, err := openVolume(files, "node1"); err != nil || bound != m.Version.HLC {
		t.Errorf("bound %v, %v", bound, err)
	}
}

// Any entries and any choice among them come through a backup and a restoration.
func TestRestoreKeepsWhatItShould(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		files := vfs.NewMem()
		if err := files.MkdirAll("data", 0o700); err != nil {
			rt.Fatal(err)
		}
		j := openJournal(t, files)
		entries := rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) kv.Entry {
			e := kv.Entry{
				Key: rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(rt, "key"), Facet: rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(rt, "facet"),
				Version: at(rapid.Int64Range(0, 100).Draw(rt, "second")),
			}
			if rapid.Bool().Draw(rt, "deleted") {
				e.Flags = kv.Tombstone
			} else {
				e.Value = rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(rt, "value")
			}
			return e
		}), 0, 30, func(e kv.Entry) string { return fmt.Sprintf("%q/%q", e.Key, e.Facet) }).Draw(rt, "entries")
		write(t, j, entries...)
		m := create(t, j, options(files, 1, clock()))
		if err := j.Close(); err != nil {
			rt.Fatal(err)
		}
		if m.Contents != contentsOf(entries) {
			rt.Fatalf("contents %+v, want %+v", m.Contents, contentsOf(entries))
		}
		odd := func(e *kv.Entry) bool { return e.Key[0]%2 == 1 }
		done, err := restore(files, &m, "node1", backup.RestoreOptions{Leave: odd})
		if err != nil {
			rt.Fatal(err)
		}
		var want []string
		for i := range entries {
			if !odd(&entries[i]) {
				want = append(want, line(&entries[i]))
			}
		}
		got := slices.DeleteFunc(strings.Split(dump(t, files, "restored/journal"), "\n"),
			func(l string) bool { return l == "" || strings.HasPrefix(l, "received") })
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || int(done.Left) != len(entries)-len(want) {
			rt.Fatalf("restored %q, want %q; %d left out", got, want, done.Left)
		}
	})
}

func TestRestoreRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, files vfs.FS, m *backup.Manifest)
		want    error
	}{
		"a directory with a journal": {func(t *testing.T, files vfs.FS, m *backup.Manifest) {
			if _, err := restore(files, m, "node1", backup.RestoreOptions{}); err != nil {
				t.Fatal(err)
			}
		}, backup.ErrNotEmpty},
		"somebody's directory": {func(t *testing.T, files vfs.FS, _ *backup.Manifest) {
			if err := files.MkdirAll("restored/photos", 0o700); err != nil {
				t.Fatal(err)
			}
		}, backup.ErrNotEmpty},
		"a directory in use": {func(t *testing.T, files vfs.FS, _ *backup.Manifest) {
			v, err := volume.Open("restored", "node1", volume.Options{FS: files})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = v.Close(0) })
		}, volume.ErrInUse},
		"a damaged backup": {func(t *testing.T, files vfs.FS, m *backup.Manifest) {
			put(t, files, "backups/"+m.Name()+"/journal/"+m.Files[0].Name, []byte("something else"))
		}, backup.ErrDamaged},
		"no backup": {func(t *testing.T, files vfs.FS, m *backup.Manifest) {
			if err := files.RemoveAll("backups/" + m.Name()); err != nil {
				t.Fatal(err)
			}
		}, backup.ErrNoBackup},
	} {
		t.Run(name, func(t *testing.T) {
			files := vfs.NewMem()
			m := backedUp(t, files)
			tc.prepare(t, files, &m)
			before := files.String()
			if _, err := restore(files, &m, "node1", backup.RestoreOptions{}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if after := files.String(); after != before {
				t.Errorf("something has changed:\n%s\nwas\n%s", after, before)
			}
		})
	}
	if _, err := restore(vfs.NewMem(), &backup.Manifest{}, "no node", backup.RestoreOptions{}); err == nil {
		t.Error("a node_id with a blank is taken")
	}
}

// What changes between the verification and the copy is not restored.
func TestRestoreOfABackupThatChangesMeanwhile(t *testing.T) {
	files := vfs.NewMem()
	m := backedUp(t, files)
	changed := false
	hooked := errorfs.Wrap(files, errorfs.InjectorFunc(func(o errorfs.Op) error {
		if o.Kind == errorfs.OpCreate && strings.Contains(o.Path, "journal.restoring") && !changed {
			changed = true
			for _, f := range m.Files {
				if f.Size > 0 {
					put(t, files, "backups/"+m.Name()+"/journal/"+f.Name, []byte("something else"))
				}
			}
		}
		return nil
	}))
	if _, err := restore(hooked, &m, "node1", backup.RestoreOptions{}); !changed || !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if got := names(t, files, "restored"); !slices.Equal(got, []string{"LOCK"}) {
		t.Errorf("left behind: %q", got)
	}
}

// A volume whose journal was set aside takes a backup, and becomes the node's that
// is named.
func TestRestoreIntoAVolumeWithoutAJournal(t *testing.T) {
	files := vfs.NewMem()
	m := backedUp(t, files)
	if _, err := restore(files, &m, "node2", backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	old, _, err := openVolume(files, "node2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := volume.Reseed(files, "restored"); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(files, &m, "node1", backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if id, _, err := openVolume(files, "node1"); err != nil || id == old {
		t.Errorf("volume %x, was %x, %v", id, old, err)
	}
}

// A crash at any moment leaves a directory on which the node does not start, or the
// whole journal, or nothing at all; and Restore can be called again.
func TestCrashWhileABackupIsRestored(t *testing.T) {
	for name, leave := range map[string]func(*kv.Entry) bool{
		"copied":  nil,
		"written": func(e *kv.Entry) bool { return string(e.Key) == "a" },
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			files := vfs.NewCrashableMem()
			m := backedUp(t, files)
			if err := errors.Join(syncAll(files, "backups"), durable.SyncDir(files, "/")); err != nil {
				t.Fatal(err)
			}
			all := images(files, seed, func(hooked vfs.FS) {
				if _, err := restore(hooked, &m, "node1", backup.RestoreOptions{Leave: leave}); err != nil {
					t.Fatal(err)
				}
			})
			want := dump(t, files, "restored/journal")
			starts := 0
			for _, img := range some(all, seed) {
				info, _ := volume.Inspect(img, "restored")
				switch _, statErr := img.Stat("restored/journal"); {
				case info.NodeID == "":
				case statErr != nil:
					t.Fatalf("%s: the node would start, without a journal", img.name)
				default:
					starts++
					if got := dump(t, img, "restored/journal"); got != want {
						t.Fatalf("%s: the node would start with\n%s", img.name, got)
					}
					continue
				}
				if _, err := restore(img, &m, "node1", backup.RestoreOptions{Leave: leave}); err != nil && !errors.Is(err, backup.ErrNotEmpty) {
					t.Fatalf("%s: a second attempt: %v", img.name, err)
				}
			}
			if starts == 0 {
				t.Error("no image on which the node starts")
			}
		})
	}
}

// Whichever operation fails, Restore says so, or everything is there.
func TestEveryOperationOfRestoreFailsOnce(t *testing.T) {
	broken := errors.New("broken")
	for n := 0; ; n++ {
		files := vfs.NewMem()
		m := backedUp(t, files)
		left, what := n, ""
		failing := errorfs.Wrap(files, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if left--; left == -1 {
				what = fmt.Sprintf("operation %d (%v %s)", n, o.Kind, o.Path)
				return broken
			}
			return nil
		}))
		_, err := restore(failing, &m, "node1", backup.RestoreOptions{})
		if err == nil {
			if _, _, err := openVolume(files, "node1"); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got, want := dump(t, files, "restored/journal"), dump(t, files, "backups/"+m.Name()+"/journal"); got != want {
				t.Fatalf("%s: restored\n%s\nwant\n%s", what, got, want)
			}
		}
		if what == "" {
			if n < 50 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
	}
}
