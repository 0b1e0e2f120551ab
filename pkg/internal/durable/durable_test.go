package durable

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func read(t *testing.T, fsys vfs.FS, path string) string {
	t.Helper()
	f, err := fsys.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// What was made is there after a power failure that keeps nothing unsynced.
func TestPowerFailure(t *testing.T) {
	files := vfs.NewCrashableMem()
	if err := MakeDir(files, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"old", "new"} {
		if err := ReplaceFile(files, "a/b/c/file", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, files.CrashClone(vfs.CrashCloneCfg{}), "a/b/c/file"); got != content {
			t.Errorf("after a power failure the file is %q, want %q", got, content)
		}
	}
}

// When any operation fails, the file has its old content or the new one.
func TestEveryFailure(t *testing.T) {
	for n := 0; ; n++ {
		files := vfs.NewCrashableMem()
		if err := errors.Join(MakeDir(files, "d"), ReplaceFile(files, "d/file", []byte("old"))); err != nil {
			t.Fatal(err)
		}
		left := n
		nth := errorfs.InjectorFunc(func(errorfs.Op) error {
			if left--; left == -1 {
				return syscall.EIO
			}
			return nil
		})
		err := ReplaceFile(errorfs.Wrap(files, nth), "d/file", []byte("new"))
		got := read(t, files.CrashClone(vfs.CrashCloneCfg{}), "d/file")
		if got != "new" && (err == nil || got != "old") {
			t.Errorf("operation %d fails: %v, and the file is %q", n, err, got)
		}
		if err == nil {
			if n < 5 {
				t.Errorf("only %d operations failed", n)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d: %v", n, err)
		}
	}
}
