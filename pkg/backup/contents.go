package backup

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// endless is a tombstone grace, in epochs, that no tombstone outlives.
const endless = math.MaxInt64 / 4

// tally reads entries in the order of their names and finds what they come to.
type tally struct {
	epoch    int64 // that the root is to cover
	entries  int64
	greatest kv.Version
	mark     kv.Version // truncation; the reserved key comes before all others
	hasher   merkle.Hasher
}

func (t *tally) take(e *kv.Entry) {
	t.entries++
	if t.greatest.Less(e.Version) {
		t.greatest = e.Version
	}
	if e.IsMark() {
		t.mark = e.Version
	}
	var in [1]bool
	if kv.AppendCut(in[:0], []kv.Entry{*e}, t.mark, endless, t.epoch)[0] {
		t.hasher.Add(e.Key, e.Facet, merkle.TagOf(e))
	}
}

func (t *tally) contents() Contents {
	return Contents{
		Entries: t.entries, Covered: int64(t.hasher.Len()), Root: Root(t.hasher.Root()),
		Epoch: t.greatest.Epoch(), Version: Version(t.greatest),
	}
}

// withJournal calls fn with a journal that nobody writes, opened for reading.
func withJournal(files vfs.FS, dir string, fn func(*disk.Reader) error) (err error) {
	r, err := disk.OpenReadOnly(dir, unlocked{files})
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return fn(r)
}

// load calls fn for each entry of a journal, in order.
func load(ctx context.Context, r *disk.Reader, m *meter, fn func(*kv.Entry) error) error {
	expected, _ := r.Size()
	seen := m.entries(expected)
	err := r.Load(func(e *kv.Entry) error {
		seen(e)
		if err := fn(e); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	m.finish()
	return nil
}

// countJournal finds what the entries of a journal come to. Which of them the root
// covers depends on the greatest version, so it reads them twice.
func countJournal(ctx context.Context, files vfs.FS, dir string, m *meter) (c Contents, err error) {
	err = withJournal(files, dir, func(r *disk.Reader) error {
		var greatest kv.Version
		err := load(ctx, r, m, func(e *kv.Entry) error {
			if greatest.Less(e.Version) {
				greatest = e.Version
			}
			return nil
		})
		if err != nil {
			return err
		}
		c, err = countEntries(ctx, r, greatest.Epoch(), m)
		return err
	})
	return c, err
}

// countJournalAt is countJournal for entries whose greatest version has a known
// epoch. It reads them once.
func countJournalAt(ctx context.Context, files vfs.FS, dir string, epoch int64, m *meter) (c Contents, err error) {
	err = withJournal(files, dir, func(r *disk.Reader) error {
		c, err = countEntries(ctx, r, epoch, m)
		return err
	})
	return c, err
}

func countEntries(ctx context.Context, r *disk.Reader, epoch int64, m *meter) (Contents, error) {
	t := tally{epoch: epoch}
	if err := load(ctx, r, m, func(e *kv.Entry) error { t.take(e); return nil }); err != nil {
		return Contents{}, err
	}
	return t.contents(), nil
}
