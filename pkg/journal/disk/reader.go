package disk

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// Reader reads a journal that nobody writes to: a checkpoint, or that of a node
// that is stopped. It changes nothing.
type Reader struct {
	db       *pebble.DB
	received []journal.Mark
}

// OpenReadOnly opens the journal in a directory for reading. Errors are those of
// Open.
func OpenReadOnly(dir string, fs vfs.FS) (*Reader, error) {
	if fs == nil {
		fs = vfs.Default
	}
	claimed, err := inspect(fs, dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, log: slog.New(slog.DiscardHandler), tell: func(error) {}}
	o := options(fs, j.logger())
	o.ReadOnly, o.ErrorIfNotExists = true, true
	// What has an older format stays as it is.
	o.FormatMajorVersion = pebble.FormatMinSupported
	if j.db, err = pebble.Open(dir, o); err != nil {
		return nil, openError(dir, err)
	}
	if err := j.readHead(claimed); err != nil {
		_ = j.db.Close() // nothing was written
		return nil, err
	}
	return &Reader{db: j.db, received: j.received}, nil
}

// Load is that of Journal.
func (r *Reader) Load(fn func(*kv.Entry) error) error { return load(r.db, fn) }

// Received is that of Journal.
func (r *Reader) Received() []journal.Mark { return r.received }

// Size is that of Journal.
func (r *Reader) Size() (entries, bytes int64) { return size(r.db) }

// Close releases the directory.
func (r *Reader) Close() error {
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
