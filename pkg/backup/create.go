package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/address"
	"merklekv/pkg/internal/durable"
)

// Source is a journal of which a copy can be made while it is written.
type Source interface {
	// Checkpoint makes in dir, which must not exist, a consistent copy of all that
	// was appended before the call, forced to the disk.
	Checkpoint(dir string) error
}

// Options say whose backups are made, and where.
type Options struct {
	FS       vfs.FS           // nil: the system's files
	Dir      string           // the backup directory; made if it is not there
	NodeID   string           // whose data it is
	Volume   uint64           // identity of the volume that the source lies in
	DataDir  string           // of the source; backups do not fill its disk. Empty: it is not looked at
	Program  string           // the program's version
	Keep     int              // backups of this node that stay, the new one included; at least 1
	Now      func() time.Time // nil: time.Now
	Progress Progress         // nil: nobody is told
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func (o *Options) check() error {
	switch {
	case o.Dir == "":
		return errors.New("no backup directory is given")
	case !address.IsNodeID(o.NodeID):
		return fmt.Errorf("%.80q cannot be a node_id", o.NodeID)
	case o.Keep < 1:
		return fmt.Errorf("%d backups cannot be kept; at least 1 can", o.Keep)
	}
	return nil
}

// RotationError says that a backup was made and is whole, but that those before it
// which are beyond the wanted number could not be removed. The next Create tries
// again.
type RotationError struct{ Err error }

func (e *RotationError) Error() string { return fmt.Sprintf("remove older backups: %v", e.Err) }
func (e *RotationError) Unwrap() error { return e.Err }

// Create makes a backup and returns its manifest. What unfinished backups of this
// node a crash has left behind goes first; when the new backup is whole, the oldest
// of this node beyond o.Keep go. When Create fails, the older backups are as they
// were, unless the error is a *RotationError: then the new one is there as well.
//
// Create must not run twice at a time for one node and directory.
func Create(ctx context.Context, source Source, o Options) (Manifest, error) {
	o.setDefaults()
	if err := o.check(); err != nil {
		return Manifest{}, err
	}
	if err := durable.MakeDir(o.FS, o.Dir); err != nil {
		return Manifest{}, err
	}
	if err := removePartial(&o); err != nil {
		return Manifest{}, err
	}
	if err := leavesRoom(&o); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Format: Format, Program: o.Program, NodeID: o.NodeID, Volume: Hex64(o.Volume)}
	var err error
	if m.Created, err = freeTime(&o); err != nil {
		return Manifest{}, err
	}
	if err := makeWhole(ctx, source, &o, &m); err != nil {
		return Manifest{}, err
	}
	if err := rotate(&o, m.Name()); err != nil {
		return m, &RotationError{err}
	}
	return m, nil
}

// freeTime returns the time of the new backup: now, or a little later when there
// is a backup of now.
func freeTime(o *Options) (time.Time, error) {
	for at := o.Now().UTC().Truncate(time.Millisecond); ; at = at.Add(time.Millisecond) {
		switch _, err := o.FS.Stat(o.FS.PathJoin(o.Dir, nameOf(o.NodeID, at))); {
		case errors.Is(err, fs.ErrNotExist):
			return at, nil
		case err != nil:
			return at, fmt.Errorf("look for backups: %w", err)
		}
	}
}

// makeWhole makes the backup under its temporary name and gives it its own one
// when it is whole.
func makeWhole(ctx context.Context, source Source, o *Options, m *Manifest) error {
	final := o.FS.PathJoin(o.Dir, m.Name())
	partial := o.FS.PathJoin(o.Dir, partialPrefix+m.Name())
	err := fill(ctx, source, o, partial, m)
	if err == nil {
		err = o.FS.Rename(partial, final)
	}
	if err != nil {
		_ = o.FS.RemoveAll(partial) // the next Create tries it again
		return fmt.Errorf("make backup %s: %w", final, err)
	}
	if err := durable.SyncDir(o.FS, o.Dir); err != nil {
		return fmt.Errorf("make backup %s: %w", final, err)
	}
	return nil
}

// fill makes the content of a backup, forced to the disk.
func fill(ctx context.Context, source Source, o *Options, dir string, m *Manifest) error {
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	copied := o.FS.PathJoin(dir, journalName)
	if err := source.Checkpoint(copied); err != nil {
		return fmt.Errorf("copy journal: %w", err)
	}
	if err := leavesRoom(o); err != nil {
		return err
	}
	var err error
	if m.Files, err = journalFiles(o.FS, copied); err != nil {
		return err
	}
	m.Bytes = totalSize(m.Files)
	work := newMeter(o.Progress, m.Bytes, 3)
	if m.Contents, err = countJournal(ctx, o.FS, copied, work); err != nil {
		return err
	}
	if err := sealFiles(ctx, o.FS, copied, m.Files, work); err != nil {
		return err
	}
	text, err := m.encode()
	if err != nil {
		return err
	}
	if *m, err = decodeManifest(text); err != nil { // what cannot be read is not written
		return err
	}
	if err := durable.WriteFile(o.FS, o.FS.PathJoin(dir, manifestName), text); err != nil {
		return err
	}
	return durable.SyncDir(o.FS, dir)
}

// sealFiles forces the files of a journal to the disk and takes their digests.
func sealFiles(ctx context.Context, files vfs.FS, dir string, list []File, work *meter) error {
	for i := range list {
		f := &list[i]
		sum, size, err := sealFile(ctx, files, files.PathJoin(dir, f.Name), work.read)
		if err != nil {
			return err
		}
		if size != f.Size {
			return fmt.Errorf("%s has changed while it was copied: it had %d bytes and has %d", f.Name, f.Size, size)
		}
		f.SHA256 = sum
	}
	work.finish()
	return durable.SyncDir(files, dir)
}

func totalSize(list []File) int64 {
	total := int64(0)
	for _, f := range list {
		total += f.Size
	}
	return total
}
