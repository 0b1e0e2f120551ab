package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// chunk is how much of a file is read at a time, in bytes.
const chunk = 256 << 10

// lockName is the file that whoever opens a journal leaves there, without content.
// It belongs to no backup.
const lockName = "LOCK"

// unlocked is a file system for reading a journal that nobody writes: its lock is
// left alone, so that a backup is not changed by reading it and can lie on a medium
// that cannot be written.
type unlocked struct{ vfs.FS }

// Lock locks nothing.
func (unlocked) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// journalFiles returns the names and sizes of what lies in a journal's directory.
func journalFiles(files vfs.FS, dir string) ([]File, error) {
	names, err := files.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	list := make([]File, 0, len(names))
	for _, name := range names {
		info, err := files.Stat(files.PathJoin(dir, name))
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		switch {
		case name == lockName && info.Size() == 0:
			continue
		case info.IsDir():
			return nil, fmt.Errorf("%s: %s is a directory; a journal holds files only: %w", dir, name, fs.ErrInvalid)
		}
		list = append(list, File{Name: name, Size: info.Size()})
	}
	slices.SortFunc(list, byName)
	return list, nil
}

// digest returns the SHA-256 and the size of a file; to, where it is not nil,
// receives its bytes. read is told how many bytes were read each time.
func digest(ctx context.Context, f io.Reader, to io.Writer, read func(int64)) (sum string, size int64, err error) {
	hash, buf := sha256.New(), make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return "", size, err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		size += int64(n)
		read(int64(n))
		if to != nil && n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return "", size, err
			}
		}
		if err == io.EOF {
			return hex.EncodeToString(hash.Sum(nil)), size, nil
		}
		if err != nil {
			return "", size, err
		}
	}
}

// sealFile forces a file to the disk and returns its SHA-256 and size.
func sealFile(ctx context.Context, files vfs.FS, path string, read func(int64)) (sum string, size int64, err error) {
	f, err := files.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return "", 0, fmt.Errorf("sync %s: %w", path, err)
	}
	if sum, size, err = digest(ctx, f, nil, read); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", path, err)
	}
	return sum, size, nil
}
