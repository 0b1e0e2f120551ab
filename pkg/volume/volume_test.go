package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/durable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustOpen opens a volume that Close must be called on.
func mustOpen(t testing.TB, fsys vfs.FS, dir, nodeID string) *Volume {
	t.Helper()
	v, err := Open(dir, nodeID, Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustClose(t testing.TB, v *Volume, last hlc.Timestamp) {
	t.Helper()
	if err := v.Close(last); err != nil {
		t.Fatal(err)
	}
}

// fill writes files of a directory, which is made, without a sync.
func fill(t testing.TB, fsys vfs.FS, dir string, files map[string]string) {
	t.Helper()
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if strings.HasSuffix(name, "/") {
			if err := fsys.MkdirAll(fsys.PathJoin(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := durable.WriteFile(fsys, fsys.PathJoin(dir, name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVolumeOutlivesItsProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	v := mustOpen(t, vfs.Default, dir, "n1")
	id := v.ID()
	if v.Bound() != 0 || id == 0 || v.Dir() != dir || v.JournalDir() != filepath.Join(dir, "journal") {
		t.Errorf("new: bound %v, id %x, %s, %s", v.Bound(), id, v.Dir(), v.JournalDir())
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with mode %v, %v", info.Mode(), err)
	}
	if err := v.Reserve(hlc.At(5000)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, v, hlc.At(3000)+7)

	v = mustOpen(t, vfs.Default, dir, "n1")
	if v.ID() != id || v.Bound() != hlc.At(3000)+7 {
		t.Errorf("after a clean stop: id %x and %x, bound %v", v.ID(), id, v.Bound())
	}
	mustClose(t, v, 0)
	v = mustOpen(t, vfs.Default, dir, "n1")
	if v.Bound() != hlc.At(3000)+7 {
		t.Errorf("a start that issued nothing moved the bound to %v", v.Bound())
	}
	mustClose(t, v, v.Bound())
	if err := v.Close(0); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := v.Reserve(hlc.At(1 << 40)); !errors.Is(err, ErrClosed) {
		t.Errorf("Reserve after Close: %v", err)
	}
}

func TestOpenRefusesWhatIsNotItsOwn(t *testing.T) {
	mem := vfs.NewMem()
	mustClose(t, mustOpen(t, mem, "other", "n2"), 0)
	for _, tc := range []struct {
		name  string
		files map[string]string
		ok    bool
		says  string
	}{
		{name: "absent", ok: true},
		{name: "empty", files: map[string]string{}, ok: true},
		{name: "a start died", files: map[string]string{"LOCK": "", "volume.json.tmp": "{"}, ok: true},
		{name: "mount point", files: map[string]string{"lost+found/": ""}, ok: true},
		{name: "beside others", files: map[string]string{"node.log": "", "backups/": ""}, ok: true},
		{name: "lost clock", files: map[string]string{"clock": "", "node.log": ""}, says: "holds clock, but no volume.json"},
		{name: "lost identity", files: map[string]string{"journal/": "", "clock": ""}, says: "data rename NODE_ID --yes --data-dir"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := strings.ReplaceAll(tc.name, " ", "-")
			if tc.files != nil {
				fill(t, mem, dir, tc.files)
			}
			v, err := Open(dir, "n1", Options{FS: mem})
			if tc.ok {
				if err != nil {
					t.Fatal(err)
				}
				mustClose(t, v, 0)
				return
			}
			if !errors.Is(err, ErrNotVolume) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want ErrNotVolume with %q", err, tc.says)
			}
			if there, _ := exists(mem, mem.PathJoin(dir, lockName)); there {
				t.Error("left a lock file in somebody else's directory")
			}
		})
	}
}

func TestOpenRefusesAnotherNode(t *testing.T) {
	mem := vfs.NewMem()
	mustClose(t, mustOpen(t, mem, "d", "n2"), 0)
	_, err := Open("d", "n1", Options{FS: mem})
	var wrong *WrongNodeError
	if !errors.As(err, &wrong) || *wrong != (WrongNodeError{Dir: "d", OnDisk: "n2", Configured: "n1"}) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{`"d"`, `"n1"`, `"n2"`, "node_id", "storage.data_dir", "merklekv data rename n1 --yes --data-dir d", "never"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	mustClose(t, mustOpen(t, mem, "d", "n2"), 0) // the lock was given back
	for _, bad := range []string{"", "a b", strings.Repeat("x", 65)} {
		if v, err := Open("e", bad, Options{FS: mem}); err == nil {
			mustClose(t, v, 0)
			t.Errorf("opened for node_id %q", bad)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"memory": vfs.NewMem(), "system": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := fsys.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			v := mustOpen(t, fsys, dir, "n1")
			fill(t, fsys, v.JournalDir(), nil)
			_, err := Open(dir, "n1", Options{FS: fsys})
			_, reseed := Reseed(fsys, dir)
			for what, err := range map[string]error{"Open": err, "Rename": Rename(fsys, dir, "n2"), "Reseed": reseed} {
				if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if info, err := Inspect(fsys, dir); err != nil || info.NodeID != "n1" {
				t.Errorf("Inspect: %+v, %v", info, err)
			}
			mustClose(t, v, 0)
			mustClose(t, mustOpen(t, fsys, dir, "n1"), 0)
		})
	}
}

func TestLockThatCannotBeMadeIsNotInUse(t *testing.T) {
	mem := vfs.NewMem()
	mustClose(t, mustOpen(t, mem, "d", "n1"), 0)
	for _, failure := range []error{&fs.PathError{Op: "open", Path: "LOCK", Err: syscall.EACCES}, syscall.ENOLCK} {
		broken := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, lockName) {
				return failure
			}
			return nil
		}))
		if _, err := Open("d", "n1", Options{FS: broken}); errors.Is(err, ErrInUse) || !errors.Is(err, failure) {
			t.Errorf("%v gave %v", failure, err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	newer := newIdentity("n1", time.Now())
	newer.format = Format + 4
	fill(t, mem, "d", map[string]string{identityName: string(newer.encode())})
	_, err := Open("d", "n1", Options{FS: mem})
	if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "format 5") || !strings.Contains(err.Error(), "up to 1") ||
		!strings.Contains(err.Error(), "later") {
		t.Errorf("got %v", err)
	}
	if err := Rename(mem, "d", "n1"); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("Rename: %v", err)
	}
}
