package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// Pebble's file format. A journal of an older one is brought up to it when it is
// opened.
const majorVersion = pebble.FormatTableFormatV6

// options are how Pebble is run: write much, read once at the start. Memory
// tables are large, so that keys that are written often reach the disk once, and
// there are enough of them that a compaction stops nobody.
func options(fs vfs.FS, logger pebble.Logger) *pebble.Options {
	o := &pebble.Options{
		FS: fs, Logger: logger, FormatMajorVersion: majorVersion,
		CacheSize:                   8 << 20,
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		EventListener:               &pebble.EventListener{},
	}
	o.EventListener.EnsureDefaults(nil)
	o.EventListener.BackgroundError = func(err error) { logger.Errorf("background work: %v", err) }
	// Pebble's own answer to damage is to end the process.
	o.EventListener.DataCorruption = func(info pebble.DataCorruptionInfo) { logger.Errorf("%s", info) }
	return o
}

// openError says what a failed opening of Pebble means.
func openError(dir string, err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "unknown format major version"), strings.Contains(text, "is not supported"):
		return fmt.Errorf("%w: %s: %w", ErrNewer, dir, err)
	case pebble.IsCorruptionError(err):
		return damage(err)
	}
	return fmt.Errorf("open journal %s: %w", dir, err)
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

func load(db *pebble.DB, fn func(*kv.Entry) error) error {
	var scratch []byte
	var e kv.Entry
	return scan(db, kindEntry, func(it *pebble.Iterator) (err error) {
		if scratch, err = decodeEntry(&e, it.Key(), it.Value(), scratch); err != nil {
			return err
		}
		return fn(&e)
	})
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
