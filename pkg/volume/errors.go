package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Errors of a data directory that cannot be used as it is. What returns them wraps
// them with the path, the finding and the remedy.
var (
	// ErrNewerFormat is returned for a directory that a later version of the program
	// wrote.
	ErrNewerFormat = errors.New("data directory of a newer format")
	// ErrInUse is returned when another process, or another part of this one, holds
	// the directory's lock.
	ErrInUse = errors.New("data directory is in use")
	// ErrDamaged is returned when a file of the directory is not as it was written.
	ErrDamaged = errors.New("data directory is damaged")
	// ErrNotVolume is returned for a directory that holds a volume's data and no
	// identity, and by operations on existing volumes where there is none.
	ErrNotVolume = errors.New("not a data directory")
	// ErrClosed is returned by a Volume that was closed.
	ErrClosed = errors.New("volume is closed")
)

// WrongNodeError is returned for the data of another node.
type WrongNodeError struct {
	Dir        string // the data directory
	OnDisk     string // whose node's data it holds
	Configured string // the node_id that was to use it
}

// Error names the directory, both nodes, and what can be done.
func (e *WrongNodeError) Error() string {
	return fmt.Sprintf("data directory %q belongs to node %q, and node_id is %q: set node_id to %q, "+
		"or storage.data_dir to the directory of %q, or run \"merklekv data rename %s --yes --data-dir %s\" to give the data to %q; "+
		"two nodes must never run on copies of one directory",
		e.Dir, e.OnDisk, e.Configured, e.OnDisk, e.Configured, e.Configured, e.Dir, e.Configured)
}

// lockError tells a lock that somebody holds from one that could not be made.
func lockError(dir string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) || errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("lock data directory %q: %w", dir, err)
	}
	return fmt.Errorf("%w: %q is locked by a running node or command: stop that, or use another storage.data_dir", ErrInUse, dir)
}

// passing reports whether an error says that something is used up which others may
// give back. It says nothing against the disk.
func passing(err error) bool {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
