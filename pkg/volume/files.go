package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names in a data directory.
const (
	identityName = "volume.json"
	lockName     = "LOCK"
	clockName    = "clock"
	journalName  = "journal"
	asidePrefix  = journalName + ".damaged-"
	partSuffix   = ".tmp" // of a file that is being written
)

// dirMode keeps a new data directory from other users.
const dirMode = 0o700

// maxFile bounds the files that this package reads, in bytes.
const maxFile = 4096

// replace makes data the content of a file, durably. Until it has succeeded the file
// may have the old content, or be absent if it was.
func replace(fsys vfs.FS, dir, name string, data []byte) error {
	path := fsys.PathJoin(dir, name)
	part := path + partSuffix
	if err := write(fsys, part, data); err != nil {
		_ = fsys.Remove(part) // the next attempt overwrites it as well
		return err
	}
	if err := fsys.Rename(part, path); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}

// write makes a file, durable but for its name.
func write(fsys vfs.FS, path string, data []byte) (err error) {
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A vfs.File may change what it is given.
	if _, err := f.Write(append([]byte(nil), data...)); err != nil {
		return err
	}
	return f.Sync()
}

// read returns the content of a small file.
func read(fsys vfs.FS, path string) (data []byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrDamaged, path, maxFile)
	}
	return data, err
}

// syncDir makes durable which names a directory has.
func syncDir(fsys vfs.FS, dir string) (err error) {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// makeDir makes a directory, and those above it that are missing, durably.
func makeDir(fsys vfs.FS, dir string) error {
	var parents []string // of what has to be made
	for d := dir; ; d = fsys.PathDir(d) {
		there, err := exists(fsys, d)
		if err != nil {
			return err
		}
		if there || fsys.PathDir(d) == d {
			break
		}
		parents = append(parents, fsys.PathDir(d))
	}
	if err := fsys.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, d := range parents {
		if err := syncDir(fsys, d); err != nil {
			return err
		}
	}
	return nil
}

// exists reports whether there is something at path.
func exists(fsys vfs.FS, path string) (bool, error) {
	_, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// size adds up the files below a directory. What goes while it looks counts nothing.
func size(fsys vfs.FS, path string) (int64, error) {
	info, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || !info.IsDir() {
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	names, err := fsys.List(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	var total int64
	for _, name := range names {
		n, err := size(fsys, fsys.PathJoin(path, name))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
