// Package durable makes files and directories that are there after a power failure:
// their content is synced, and so is the directory that names them.
package durable

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TempSuffix is what the name of a file ends with that ReplaceFile has not finished.
const TempSuffix = ".tmp"

// SyncDir syncs a directory, so that the names in it stay as they are.
func SyncDir(fsys vfs.FS, dir string) (err error) {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// WriteFile makes a file, whose content is durable; its name is with the next SyncDir
// of its directory.
func WriteFile(fsys vfs.FS, path string, data []byte) error {
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	// A vfs.File may change what it is given.
	_, err = f.Write(append([]byte(nil), data...))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReplaceFile makes data the content of a file. Until it has succeeded the file may
// have the old content, or be absent if it was; a crash may leave a file of the same
// name with TempSuffix.
func ReplaceFile(fsys vfs.FS, path string, data []byte) error {
	temp := path + TempSuffix
	if err := WriteFile(fsys, temp, data); err != nil {
		_ = fsys.Remove(temp) // the next attempt overwrites it as well
		return err
	}
	if err := fsys.Rename(temp, path); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	return SyncDir(fsys, fsys.PathDir(path))
}

// dirMode keeps new directories from other users.
const dirMode = 0o700

// MakeDir makes a directory, for its owner only, and those above it that are missing.
func MakeDir(fsys vfs.FS, dir string) error {
	var parents []string // of what has to be made
	for d := dir; ; d = fsys.PathDir(d) {
		_, err := fsys.Stat(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make directory: %w", err)
		}
		if err == nil || fsys.PathDir(d) == d {
			break
		}
		parents = append(parents, fsys.PathDir(d))
	}
	if err := fsys.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for _, d := range parents {
		if err := SyncDir(fsys, d); err != nil {
			return err
		}
	}
	return nil
}
