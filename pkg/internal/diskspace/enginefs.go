package diskspace

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// EngineFS returns the files as a storage engine is to see them, so that a disk that
// others have filled does not end it. A table that cannot be written is written anew
// later, so none is begun while less is free than the ballast has: what is left is
// for the engine's log and its MANIFEST, without which it cannot go on. When even
// those find no space, the ballast is removed, and they try again.
func (w *Watcher) EngineFS() vfs.FS {
	return &engineFS{FS: vfs.OnDiskFull(w.opts.FS, w.Relieve), watcher: w}
}

type engineFS struct {
	vfs.FS
	watcher *Watcher
}

const tableSuffix = ".sst"

// tablePause is how long the engine waits before it tries again to write a table,
// which it does at once and for ever.
const tablePause = 200 * time.Millisecond

// Create is part of vfs.FS.
func (e *engineFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !strings.HasSuffix(name, tableSuffix) {
		return e.FS.Create(name, category)
	}
	if space, err := e.watcher.space(); err == nil && space.Total > 0 && space.Free < MarksOf(space.Total).Ballast {
		time.Sleep(tablePause)
		return nil, fmt.Errorf("begin table %s: %w", name, syscall.ENOSPC)
	}
	f, err := e.watcher.opts.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return &tableFile{f}, nil
}

// Unwrap is part of vfs.FS.
func (e *engineFS) Unwrap() vfs.FS { return e.FS }

// tableFile is a table that may find no space.
type tableFile struct{ vfs.File }

func (f *tableFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if vfs.IsNoSpaceError(err) {
		time.Sleep(tablePause)
	}
	return n, err
}
