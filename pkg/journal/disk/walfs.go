package disk

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lazyFS holds back the syncs of Pebble's write-ahead log: asked to sync it, a
// file has been written to, which is all that fsync = interval and never promise
// before an acknowledgement. All other files are synced as Pebble asks for.
//
// A log is synced before it is closed. Else a later log could be on the disk when an
// earlier one is not, and what is left after a power failure would not be a prefix of
// what was written.
type lazyFS struct {
	vfs.FS

	mu   sync.Mutex
	logs map[*lazyLog]struct{} // those that are open
}

func newLazyFS(fs vfs.FS) *lazyFS {
	return &lazyFS{FS: fs, logs: make(map[*lazyLog]struct{})}
}

const logSuffix = ".log"

func (l *lazyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return l.wrap(name)(l.FS.Create(name, category))
}

func (l *lazyFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return l.wrap(newname)(l.FS.ReuseForWrite(oldname, newname, category))
}

// Unwrap is part of vfs.FS.
func (l *lazyFS) Unwrap() vfs.FS { return l.FS }

func (l *lazyFS) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil || !strings.HasSuffix(name, logSuffix) {
			return f, err
		}
		log := &lazyLog{File: f, fs: l}
		l.mu.Lock()
		l.logs[log] = struct{}{}
		l.mu.Unlock()
		return log, nil
	}
}

// sync forces all logs to the disk and returns the first error.
func (l *lazyFS) sync() (err error) {
	l.mu.Lock()
	logs := make([]*lazyLog, 0, len(l.logs))
	for log := range l.logs {
		logs = append(logs, log)
	}
	l.mu.Unlock()
	for _, log := range logs {
		if e := log.force(); err == nil {
			err = e
		}
	}
	return err
}

// lazyLog is one file of the write-ahead log.
type lazyLog struct {
	vfs.File
	fs    *lazyFS
	dirty atomic.Bool // asked to be synced since it was

	mu     sync.Mutex // held while the file is synced or closed
	closed bool
}

func (f *lazyLog) Sync() error     { f.dirty.Store(true); return nil }
func (f *lazyLog) SyncData() error { f.dirty.Store(true); return nil }

func (f *lazyLog) SyncTo(int64) (fullSync bool, err error) {
	f.dirty.Store(true)
	return false, nil
}

// force syncs the file if there is anything to sync.
func (f *lazyLog) force() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !f.dirty.Swap(false) {
		return nil
	}
	return f.File.SyncData()
}

func (f *lazyLog) Close() error {
	err := f.force()
	f.fs.mu.Lock()
	delete(f.fs.logs, f)
	f.fs.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if e := f.File.Close(); err == nil {
		err = e
	}
	return err
}
