package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// VerifyOptions say how a backup is read.
type VerifyOptions struct {
	FS       vfs.FS   // nil: the system's files
	Progress Progress // nil: nobody is told
}

// Verify reads the whole backup at path and reports whether it is what was
// written: the manifest, every file's checksum, no file too few or too many, then
// every entry, their number, and the root computed again. Its errors wrap
// ErrNoBackup, ErrDamaged or ErrNewerFormat, or are ctx's or the file system's.
func Verify(ctx context.Context, path string, o VerifyOptions) (Manifest, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	m, err := ReadManifest(o.FS, path)
	if err != nil {
		return Manifest{}, err
	}
	if err := verify(ctx, o.FS, path, &m, newMeter(o.Progress, m.Bytes, 2)); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// verify is Verify for a manifest that was read. It reads the files twice.
func verify(ctx context.Context, files vfs.FS, path string, m *Manifest, work *meter) error {
	if err := verifyFiles(ctx, files, path, m, work); err != nil {
		return err
	}
	return verifyContents(ctx, files, path, m, work)
}

func verifyFiles(ctx context.Context, files vfs.FS, path string, m *Manifest, work *meter) error {
	dir := files.PathJoin(path, journalName)
	if err := verifyNames(files, path, m); err != nil {
		return err
	}
	for _, f := range m.Files {
		sum, size, err := hashFile(ctx, files, files.PathJoin(dir, f.Name), work.read)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return damaged(path, "%s is missing", f.Name)
		case err != nil:
			return err
		case size != f.Size:
			return damaged(path, "%s has %d bytes, not %d", f.Name, size, f.Size)
		case sum != f.SHA256:
			return damaged(path, "the content of %s is not what was written", f.Name)
		}
	}
	work.finish()
	return nil
}

// verifyNames looks for files that the manifest does not name.
func verifyNames(files vfs.FS, path string, m *Manifest) error {
	list, err := journalFiles(files, files.PathJoin(path, journalName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return damaged(path, "%s is missing", journalName)
	case errors.Is(err, fs.ErrInvalid):
		return damaged(path, "%w", err)
	case err != nil:
		return err
	}
	for _, f := range list {
		if _, known := slices.BinarySearchFunc(m.Files, f, byName); !known {
			return damaged(path, "%s does not belong to it", f.Name)
		}
	}
	return nil
}

func verifyContents(ctx context.Context, files vfs.FS, path string, m *Manifest, work *meter) error {
	got, err := countJournalAt(ctx, files, files.PathJoin(path, journalName), m.Epoch, work)
	switch {
	case errors.Is(err, disk.ErrDamaged):
		return damaged(path, "%w", err)
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case got != m.Contents:
		return damaged(path, "it holds %d entries up to %s with root %s, and should hold %d up to %s with root %s",
			got.Entries, kv.Version(got.Version), got.Root, m.Entries, kv.Version(m.Version), m.Root)
	}
	return nil
}

// hashFile returns the SHA-256 and the size of a file.
func hashFile(ctx context.Context, files vfs.FS, path string, read func(int64)) (string, int64, error) {
	f, err := files.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	sum, size, err := digest(ctx, f, nil, read)
	if err != nil {
		return "", 0, fmt.Errorf("read %s: %w", path, err)
	}
	return sum, size, nil
}
