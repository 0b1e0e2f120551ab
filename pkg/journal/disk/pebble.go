package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal"
)

// Pebble's file format. A journal of an older one is brought up to it when it is
// opened.
const majorVersion = pebble.FormatTableFormatV6

// options are how Pebble is run: write much, read once at the start. A memory table
// takes what is settled at a time and its scripts; there are enough of them that a
// compaction stops nobody, and no more, for Pebble keeps as many files of its log to
// be written anew, and one.
//
// damaged is called when a block is read that is not what was written. Pebble's own
// answer is to end the process.
func options(fsys vfs.FS, logger pebble.Logger, damaged func(pebble.DataCorruptionInfo)) *pebble.Options {
	o := &pebble.Options{
		FS: fsys, Logger: logger, FormatMajorVersion: majorVersion,
		CacheSize:                   8 << 20,
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 3,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		EventListener:               &pebble.EventListener{},
	}
	o.EventListener.EnsureDefaults(nil)
	o.EventListener.BackgroundError = func(err error) { logger.Errorf("background work: %v", err) }
	o.EventListener.DataCorruption = damaged
	return o
}

// readOptions are those for reading a journal that nobody writes to. What has an
// older format stays as it is.
func readOptions(fsys vfs.FS, logger pebble.Logger) *pebble.Options {
	o := options(fsys, logger, func(pebble.DataCorruptionInfo) {})
	o.ReadOnly, o.ErrorIfNotExists = true, true
	o.FormatMajorVersion = pebble.FormatMinSupported
	return o
}

// openToRead opens Pebble for reading.
func openToRead(fsys vfs.FS, dir string, found findings) (*pebble.DB, error) {
	j := &Journal{log: slog.New(slog.DiscardHandler), broken: make(chan struct{})}
	opened := newSealFS(fsys, found, j.fail)
	var db *pebble.DB
	err := j.unlessFailed(func() (err error) {
		db, err = openEngine(dir, readOptions(opened, j.logger()))
		return err
	})
	if err != nil {
		return nil, openError(dir, opened.lastOpened(), err)
	}
	return db, nil
}

// openEngine opens Pebble. It panics over some files that it can make no sense of,
// which is an error here.
func openEngine(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			db, err = nil, fmt.Errorf("the engine panicked: %v", cause)
		}
	}()
	return pebble.Open(dir, o)
}

// openError says what a failed opening of Pebble means. file is the one that it
// opened last: some of Pebble's errors name none.
func openError(dir, file string, err error) error {
	switch {
	case strings.Contains(err.Error(), "unknown format major version"):
		return fmt.Errorf("%w: %s: %w", ErrNewer, dir, err)
	case errors.Is(err, pebble.ErrDBNotPristine):
		return &DamageError{File: dir, Err: errors.New("the file that says its format (marker.format-version.*) is missing")}
	case errors.Is(err, fs.ErrNotExist) && !pebble.IsCorruptionError(err):
		return &DamageError{File: dir, Err: fmt.Errorf("a file is missing: %w", err)}
	case pebble.IsCorruptionError(err):
		return damageIn(file, err)
	case strings.Contains(file, "OPTIONS-") && !isSystem(err):
		return &DamageError{File: file, Err: err}
	}
	return fmt.Errorf("open journal %s: %w", dir, err)
}

// isSystem reports whether an error is one that the system returned.
func isSystem(err error) bool {
	var path *fs.PathError
	var number syscall.Errno
	return errors.As(err, &path) || errors.As(err, &number)
}

// meetDamage takes down that a block was read that is not what was written. What
// was read in the background waits: a compaction that fails begins anew at once, and
// would fail as fast as it can, for ever.
func (j *Journal) meetDamage(info pebble.DataCorruptionInfo) {
	j.met.damage.Inc()
	if j.damaged.CompareAndSwap(nil, &DamageError{File: info.Path, Err: info.Details}) {
		j.log.Error("a file of the journal is damaged; start the node anew, which saves what can be read",
			"file", info.Path, "err", info.Details.Error()) // not with the stack that comes with it
	}
	if j.reading.Load() > 0 {
		return
	}
	select {
	case <-j.stop:
	case <-j.broken:
	case <-time.After(damagePause):
	}
}

const (
	troubleTold = 100 // of the errors of the engine's background work, each so many-th is logged
	troubleMost = 50  // errors with which an opening is given up
)

// meetTrouble takes in that work in the background came to nothing. The engine tries
// it again, at once and for ever; while the journal is opened nobody could stop it.
func (j *Journal) meetTrouble(err error) {
	n := j.troubles.Add(1)
	if n%troubleTold == 1 {
		j.log.Error("the storage engine's work in the background failed, it is tried again", "times", n, "err", err.Error())
	}
	if n >= troubleMost && j.opening.Load() && !pebble.IsCorruptionError(err) { // that is found by reading
		go j.fail(fmt.Errorf("tables cannot be written: %w", err)) // the engine holds locks here
	}
}

// damagePause is how long the background waits that has met damage.
const damagePause = time.Second

// Damage returns the first damage that was met while the journal was used, nil if
// there was none. It wraps ErrDamaged.
func (j *Journal) Damage() error {
	if d := j.damaged.Load(); d != nil {
		return d
	}
	return nil
}

// readHead reads the number of the last group, which is at least the one that the
// log claims to have synced, and the vector.
func readHead(db *pebble.DB, dir string, claimed uint64) (number uint64, received []journal.Mark, err error) {
	if number, err = readNumber(db); err != nil {
		return 0, nil, err
	}
	if number < claimed {
		return 0, nil, &DamageError{File: dir, Err: fmt.Errorf(
			"the log says that group %d was on the disk, but it ends with group %d", claimed, number)}
	}
	received, err = readVector(db)
	return number, received, err
}

func readNumber(db *pebble.DB) (uint64, error) {
	value, closer, err := db.Get([]byte{kindGroup})
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read journal: %w", damage(err))
	}
	defer closer.Close()
	if len(value) != 8 {
		return 0, &DamageError{Err: fmt.Errorf("%w: number of the last group", errFormat)}
	}
	return be.Uint64(value), nil
}

func readVector(db *pebble.DB) ([]journal.Mark, error) {
	var marks []journal.Mark
	err := scan(db, kindVector, func(it *pebble.Iterator) error {
		m, err := decodeMark(it.Key(), it.Value())
		marks = append(marks, m)
		return err
	})
	return marks, err
}

// scan calls fn for all records of a kind. Its own errors are DamageErrors where
// Pebble speaks of corruption.
func scan(db *pebble.DB, kind byte, fn func(*pebble.Iterator) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return fmt.Errorf("read journal: %w", damage(err))
	}
	for it.First(); it.Valid(); it.Next() {
		if err := fn(it); err != nil {
			return errors.Join(damage(err), it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read journal: %w", damage(err))
	}
	return nil
}

func size(db *pebble.DB) (entries, bytes int64) {
	levels, err := db.SSTables(pebble.WithProperties())
	if err != nil {
		return 0, 0
	}
	for _, level := range levels {
		for i := range level {
			bytes += int64(level[i].Size)
			if p := level[i].Properties; p != nil {
				entries += int64(p.NumEntries)
			}
		}
	}
	return entries, bytes
}

// engineLog is what Pebble says, for the node's log.
type engineLog struct {
	log  *slog.Logger
	fail func(error)
}

func (j *Journal) logger() pebble.Logger { return &engineLog{log: j.log, fail: j.fail} }

func (l *engineLog) Infof(format string, args ...any) {
	l.log.Debug("engine: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l *engineLog) Errorf(format string, args ...any) {
	l.log.Error("engine: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Fatalf is where Pebble gives up, and it must not return. The process is to end,
// but by whoever owns it: the goroutine that came here goes no further. The
// committer holds none of Pebble's locks, so it may end; others may, and are left
// standing.
func (l *engineLog) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf(format, args...))
	if strings.HasPrefix(format, "pebble: fatal commit error") {
		runtime.Goexit()
	}
	select {}
}
