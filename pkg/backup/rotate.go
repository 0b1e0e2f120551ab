package backup

import (
	"errors"
	"fmt"

	"merklekv/pkg/internal/durable"
)

// excess returns which of a node's good backups, newest first, are beyond the
// wanted number. The one just made is never among them, although a clock that was
// set back may have made it the oldest.
func excess(good []Backup, keep int, made string) []Backup {
	var beyond []Backup
	kept := 1 // the one just made
	for _, b := range good {
		switch {
		case b.Name == made:
		case kept < keep:
			kept++
		default:
			beyond = append(beyond, b)
		}
	}
	return beyond
}

// rotate removes the oldest backups of the node beyond the wanted number.
func rotate(o *Options, made string) error {
	all, err := List(o.FS, o.Dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, b := range excess(goodOf(o.NodeID, all), o.Keep, made) {
		failed = append(failed, remove(o, &b))
	}
	return errors.Join(failed...)
}

// remove takes a backup's name away before its content, so that what a crash
// leaves of it is not taken for a backup.
func remove(o *Options, b *Backup) error {
	doomed := o.FS.PathJoin(o.Dir, partialPrefix+b.Name)
	err := o.FS.Rename(b.Path, doomed)
	if err == nil {
		err = durable.SyncDir(o.FS, o.Dir)
	}
	if err == nil {
		err = o.FS.RemoveAll(doomed)
	}
	if err != nil {
		return fmt.Errorf("remove backup %s: %w", b.Path, err)
	}
	return nil
}

// removePartial removes what was left unfinished of this node's backups.
func removePartial(o *Options) error {
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	for _, name := range names {
		if !isPartialOf(o.NodeID, name) {
			continue
		}
		if err := o.FS.RemoveAll(o.FS.PathJoin(o.Dir, name)); err != nil {
			return fmt.Errorf("remove unfinished backup: %w", err)
		}
	}
	return nil
}
