package backup_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"merklekv/pkg/backup"
	"merklekv/pkg/internal/durable"
)

// image is a file system as a crash may leave it.
type image struct {
	*vfs.MemFS
	name string
}

// images returns what a crash before every operation that do makes may leave:
// nothing that was not synced, half of it, all of it.
func images(files *vfs.MemFS, seed uint64, do func(vfs.FS)) []image {
	var mu sync.Mutex // Pebble works in goroutines of its own, too
	var all []image
	op := 0
	do(oneByOne{errorfs.Wrap(files, errorfs.InjectorFunc(func(o errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		op++
		for _, kept := range []int{0, 50, 100} {
			clone := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(seed, uint64(op)))})
			all = append(all, image{clone, fmt.Sprintf("seed %d, before operation %d (%v %s), %d %% of unsynced data kept", seed, op, o.Kind, o.Path, kept)})
		}
		return nil
	}))})
	return all
}

// some returns a third of the images, and all of the last ones: those after the
// content was written.
func some(all []image, seed uint64) []image {
	var chosen []image
	for i, img := range all {
		if i%3 == int(seed%3) || i >= len(all)-75 {
			chosen = append(chosen, img)
		}
	}
	return chosen
}

// oneByOne removes directories as real file systems do: not at once.
type oneByOne struct{ vfs.FS }

func (f oneByOne) RemoveAll(path string) error {
	list, err := f.List(path)
	if err != nil {
		return f.FS.RemoveAll(path) // a file, or nothing
	}
	for _, name := range list {
		if err := f.RemoveAll(f.PathJoin(path, name)); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(f, path); err != nil {
		return err
	}
	return f.Remove(path)
}

// Whatever moment of making a backup, rotation included, a crash comes at: what
// then has a backup's name is whole, and the older ones are there until the new one
// is.
func TestCrashWhileABackupIsMade(t *testing.T) {
	seed := rand.Uint64()
	files := vfs.NewCrashableMem()
	j := newJournal(t, files)
	defer j.Close()
	now := clock()
	first, second := create(t, j, options(files, 2, now)), create(t, j, options(files, 2, now))
	write(t, j, value("new", 40))
	var third backup.Manifest
	all := images(files, seed, func(hooked vfs.FS) {
		third = create(t, onFS(j, files, hooked), options(hooked, 2, now))
	})
	if len(all) < 100 {
		t.Fatalf("only %d images", len(all))
	}
	newOnes := 0
	for _, img := range some(all, seed) {
		whole := make(map[string]bool)
		list, err := backup.List(img, "backups")
		if err != nil {
			t.Fatalf("%s: %v", img.name, err)
		}
		for _, b := range list {
			if b.Err != nil {
				t.Fatalf("%s: %s has a backup's name: %v", img.name, b.Name, b.Err)
			}
			if err := verify(img, b.Name); err != nil {
				t.Fatalf("%s: %v", img.name, err)
			}
			whole[b.Name] = true
		}
		if !whole[second.Name()] || !whole[first.Name()] && !whole[third.Name()] {
			t.Fatalf("%s: only %v are there", img.name, whole)
		}
		if whole[third.Name()] {
			newOnes++
		}
	}
	if newOnes == 0 || newOnes == len(some(all, seed)) {
		t.Errorf("the new backup is there in %d of %d images: they say nothing", newOnes, len(all))
	}
}

// onFS returns a source whose copy lies where another view of the same files sees
// it, the crashes during the copy included.
func onFS(j backup.Source, files, hooked vfs.FS) backup.Source {
	return source(func(dir string) error {
		if err := j.Checkpoint("data/copy"); err != nil {
			return err
		}
		defer func() { _ = files.RemoveAll("data/copy") }()
		_, err := vfs.Clone(hooked, hooked, "data/copy", dir) // not synced: that is left to Create
		return err
	})
}

// After a crash the next backup is made as ever, and what was left of the last one
// goes.
func TestBackupAfterACrash(t *testing.T) {
	seed := rand.Uint64()
	files := vfs.NewCrashableMem()
	still := copies(t, files)
	if err := errors.Join(syncAll(files, "data"), durable.SyncDir(files, "/")); err != nil {
		t.Fatal(err)
	}
	now := clock()
	create(t, still, options(files, 2, now))
	all := images(files, seed, func(hooked vfs.FS) { create(t, still, options(hooked, 1, now)) })
	for i, img := range all {
		if i%10 != int(seed%10) {
			continue // each of them costs a journal opened twice
		}
		m, err := backup.Create(t.Context(), onImage(img.MemFS), options(img, 2, now))
		if err != nil {
			t.Fatalf("%s: %v", img.name, err)
		}
		if err := verify(img, m.Name()); err != nil {
			t.Fatalf("%s: %v", img.name, err)
		}
		for _, name := range names(t, img, "backups") {
			if strings.HasPrefix(name, ".partial~") {
				t.Fatalf("%s: %s stays", img.name, name)
			}
		}
	}
}

func onImage(files vfs.FS) backup.Source {
	return source(func(dir string) error {
		_, err := vfs.Clone(files, files, "data/still", dir, vfs.CloneSync)
		return err
	})
}

// syncAll forces everything below a directory to the disk.
func syncAll(files vfs.FS, dir string) error {
	list, err := files.List(dir)
	if err != nil {
		return err
	}
	for _, name := range list {
		path := files.PathJoin(dir, name)
		info, err := files.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := syncAll(files, path); err != nil {
				return err
			}
			continue
		}
		f, err := files.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return durable.SyncDir(files, dir)
}

// Whichever operation fails: the error is told, the older backups are whole, and
// the next attempt works.
func TestEveryOperationFailsOnce(t *testing.T) {
	broken := errors.New("broken")
	for n := 0; ; n++ {
		files := vfs.NewMem() // cheap enough to begin anew each time
		still := copies(t, files)
		now := clock()
		first, second := create(t, still, options(files, 2, now)), create(t, still, options(files, 2, now))
		left, what := n, ""
		failing := errorfs.Wrap(files, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if left--; left == -1 {
				what = fmt.Sprintf("operation %d (%v %s)", n, o.Kind, o.Path)
				return broken
			}
			return nil
		}))
		m, err := backup.Create(t.Context(), still, options(failing, 2, now))
		if what == "" {
			if err != nil || n < 30 {
				t.Fatalf("after %d operations: %v", n, err)
			}
			return
		}
		var rotation *backup.RotationError
		good := err == nil || errors.As(err, &rotation)
		if good {
			if err := verify(files, m.Name()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if err := verify(files, second.Name()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := verify(files, first.Name()); err != nil && !good {
			t.Fatalf("%s: %v", what, err)
		}
		next, err := backup.Create(t.Context(), still, options(files, 2, now))
		if err != nil {
			t.Fatalf("after %s: %v", what, err)
		}
		if err := verify(files, next.Name()); err != nil {
			t.Fatalf("after %s: %v", what, err)
		}
	}
}
