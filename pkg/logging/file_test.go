package logging

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func openFile(t *testing.T, path string, maxSize int64, keep int) *File {
	t.Helper()
	f, err := OpenFile(path, maxSize, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t *testing.T, f *File, text string) {
	t.Helper()
	if n, err := f.Write([]byte(text)); err != nil || n != len(text) {
		t.Fatalf("write %q: %d, %v", text, n, err)
	}
}

func TestRotationKeepsTheNewestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := openFile(t, path, 10, 2)
	for _, record := range []string{"aaaa\n", "bbbb\n", "cccc\n", "dddddddddddddd\n", "eeee\n", "ffff\n"} {
		write(t, f, record)
	}
	want := map[string]string{path: "eeee\nffff\n", path + ".1": "dddddddddddddd\n", path + ".2": "cccc\n"}
	for file, content := range want {
		if got := read(t, file); got != content {
			t.Errorf("%s holds %q, want %q", filepath.Base(file), got, content)
		}
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a third rotated file: %v", err)
	}
}

func TestSizeOfAnExistingFileCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, openFile(t, path, 10, 1), "12345678\n")
	write(t, openFile(t, path, 10, 1), "next\n")
	if got := read(t, path); got != "next\n" {
		t.Errorf("got %q", got)
	}
}

func TestSizeZeroNeverRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := openFile(t, path, 0, 1)
	for range 100 {
		write(t, f, "record\n")
	}
	if got := read(t, path); len(got) != 700 {
		t.Errorf("%d bytes, want 700", len(got))
	}
}

func TestConcurrentWritersLoseAndDivideNothing(t *testing.T) {
	const writers, records = 8, 200
	dir := t.TempDir()
	f := openFile(t, filepath.Join(dir, "log"), 500, writers*records)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range records {
				if _, err := fmt.Fprintf(f, "writer %d record %d end\n", w, i); err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					if err := f.Reopen(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[string]int)
	files, err := filepath.Glob(filepath.Join(dir, "log*"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		content := read(t, file)
		if len(content) > 500 {
			t.Errorf("%s has %d bytes", file, len(content))
		}
		for lines := bufio.NewScanner(strings.NewReader(content)); lines.Scan(); {
			seen[lines.Text()]++
		}
	}
	for w := range writers {
		for i := range records {
			if n := seen[fmt.Sprintf("writer %d record %d end", w, i)]; n != 1 {
				t.Fatalf("record %d of writer %d is there %d times", i, w, n)
			}
		}
	}
	if len(seen) != writers*records {
		t.Errorf("%d different records, want %d", len(seen), writers*records)
	}
}

func TestFailedRotationGoesOnInTheSameFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := openFile(t, path, 10, 1)
	// A directory that is not empty cannot be replaced by a file.
	if err := os.MkdirAll(filepath.Join(path+".1", "x"), 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, f, "12345678\n")
	write(t, f, "next\n")
	if got := read(t, path); got != "12345678\nnext\n" {
		t.Errorf("got %q", got)
	}
}

func TestClosedFileRefuses(t *testing.T) {
	f := openFile(t, filepath.Join(t.TempDir(), "log"), 10, 1)
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if err := f.Reopen(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reopen: %v", err)
	}
}

func TestReopenRecoversWhenItsDirectoryIsBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	f := openFile(t, path, 0, 1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err == nil {
		t.Fatal("reopened in a directory that is gone")
	}
	if _, err := f.Write([]byte("lost\n")); err == nil {
		t.Fatal("written to a directory that is gone")
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, f, "back\n")
	if got := read(t, path); got != "back\n" {
		t.Errorf("got %q", got)
	}
}
