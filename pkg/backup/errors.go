package backup

import (
	"errors"
	"fmt"
)

var (
	// ErrDamaged is wrapped by the errors about backups that are not what was
	// written.
	ErrDamaged = errors.New("backup is damaged")
	// ErrNewerFormat is wrapped when a later version of the program made a backup.
	ErrNewerFormat = errors.New("backup has a newer format")
	// ErrNoBackup is wrapped when there is no backup at a path.
	ErrNoBackup = errors.New("no backup there")
	// ErrNoRoom is wrapped when a backup would take the space that the journal needs.
	ErrNoRoom = errors.New("disk is nearly full")
	// ErrRunning is returned when a backup is being made already.
	ErrRunning = errors.New("a backup is being made already")
	// ErrClosed is returned by a Runner that makes no backups any more.
	ErrClosed = errors.New("backups are not made any more")
	// ErrNotEmpty is wrapped when a backup is to be restored where data lies already.
	ErrNotEmpty = errors.New("data directory is not empty")
)

// damaged returns an error that says what is wrong with the backup at path.
func damaged(path, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrDamaged, path, fmt.Errorf(format, args...))
}
