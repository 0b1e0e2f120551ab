package disk

import (
	"fmt"

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
func OpenReadOnly(dir string, fsys vfs.FS) (*Reader, error) {
	if fsys == nil {
		fsys = vfs.Default
	}
	found, err := inspect(fsys, dir)
	if err != nil {
		return nil, err
	}
	db, err := openToRead(fsys, dir, found)
	if err != nil {
		return nil, err
	}
	_, received, err := readHead(db, dir, found.synced)
	if err != nil {
		_ = db.Close() // nothing was written
		return nil, err
	}
	return &Reader{db: db, received: received}, nil
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
