package backup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Backup is one of the backups in a directory.
type Backup struct {
	Name     string
	Path     string
	NodeID   string    // as the name has it
	Created  time.Time // as the name has it
	Manifest Manifest  // zero if Err is not nil
	Err      error     // why the manifest cannot be read
}

// List returns the backups of all nodes in a directory, newest first, those with an
// unreadable manifest included. It reads the manifests only; whether the rest is as
// it was written, Verify says. A directory that does not exist holds none.
func List(files vfs.FS, dir string) ([]Backup, error) {
	if files == nil {
		files = vfs.Default
	}
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var found []Backup
	for _, name := range names {
		nodeID, created, ok := parseName(name)
		if !ok {
			continue
		}
		b := Backup{Name: name, Path: files.PathJoin(dir, name), NodeID: nodeID, Created: created}
		b.Manifest, b.Err = ReadManifest(files, b.Path)
		if b.Err == nil && b.Manifest.Name() != name {
			b.Err = damaged(b.Path, "it is called %s inside", b.Manifest.Name())
			b.Manifest = Manifest{}
		}
		found = append(found, b)
	}
	slices.SortFunc(found, func(a, b Backup) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return found, nil
}

// goodOf returns those of a node that can be read, in the same order.
func goodOf(nodeID string, all []Backup) []Backup {
	var good []Backup
	for _, b := range all {
		if b.NodeID == nodeID && b.Err == nil {
			good = append(good, b)
		}
	}
	return good
}
