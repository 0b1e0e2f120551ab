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
)

// maxFile bounds the files that this package reads, in bytes.
const maxFile = 4096

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
