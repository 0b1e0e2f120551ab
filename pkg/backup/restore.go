package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/address"
	"merklekv/pkg/internal/durable"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
	"merklekv/pkg/volume"
)

// RestoreOptions say what becomes of a backup.
type RestoreOptions struct {
	FS vfs.FS // nil: the system's files
	// Leave says which entries are not restored, as the members of a cluster to which
	// the node is not to belong; nil restores all.
	Leave    func(*kv.Entry) bool
	Progress Progress // nil: nobody is told
}

// Restored says what was restored.
type Restored struct {
	Manifest
	Left int64 // entries that RestoreOptions.Leave left out
}

const (
	volumeName = "volume.json"
	// restoringName is the journal until it is whole.
	restoringName = "journal.restoring"
)

// Restore makes the data directory of a node out of the backup at path: it verifies
// the backup, copies the journal, and gives the directory an identity of its own and
// a clock bound at which the node stamps nothing at or below the greatest version.
//
// The data directory is made if it is not there. One that holds a journal, or things
// of somebody else, is refused with an error that wraps ErrNotEmpty, one in use with
// volume.ErrInUse; a volume whose journal was set aside is taken and becomes that of
// nodeID. Other errors are those of Verify or of the file system.
//
// After a failure, or a crash, Restore can be called again, unless the journal is in
// its place already. A directory that was none of a node before is not started on
// then; one whose journal was set aside is, with its old identity and all of the
// backup.
func Restore(ctx context.Context, path, dataDir, nodeID string, o RestoreOptions) (Restored, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if !address.IsNodeID(nodeID) {
		return Restored{}, fmt.Errorf("%.80q cannot be a node_id", nodeID)
	}
	if err := checkTarget(o.FS, dataDir); err != nil {
		return Restored{}, err
	}
	m, err := ReadManifest(o.FS, path)
	if err != nil {
		return Restored{}, err
	}
	readings := 3
	if o.Leave != nil {
		readings = 4
	}
	r := restorer{RestoreOptions: o, path: path, dataDir: dataDir, m: m, work: newMeter(o.Progress, m.Bytes, readings)}
	if err := verify(ctx, o.FS, path, &m, r.work); err != nil {
		return Restored{}, err
	}
	left, err := r.journal(ctx)
	if err == nil {
		err = r.identify(nodeID)
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore into %s: %w", dataDir, err)
	}
	return Restored{Manifest: m, Left: left}, nil
}

// restorer is one restoration at work.
type restorer struct {
	RestoreOptions
	path, dataDir string
	m             Manifest
	work          *meter
}

// checkTarget refuses a data directory in which something would be lost.
func checkTarget(files vfs.FS, dir string) error {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into data directory: %w", err)
	}
	if slices.Contains(names, journalName) {
		return fmt.Errorf("%w: %s holds a journal already; restore into another directory, or set that journal aside with "+
			"'merklekv data reseed'", ErrNotEmpty, dir)
	}
	if slices.Contains(names, volumeName) {
		return nil
	}
	var strange []string
	for _, name := range names {
		if name != lockName && name != restoringName && name != volumeName+".tmp" && name != "lost+found" {
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		slices.Sort(strange)
		return fmt.Errorf("%w: %s holds %s, and is no node's; restore into an empty directory", ErrNotEmpty, dir,
			strings.Join(strange[:min(len(strange), 3)], ", "))
	}
	return nil
}

// journal puts the journal into the data directory, which nobody else uses
// meanwhile, and returns how many entries were left out.
func (r *restorer) journal(ctx context.Context) (left int64, err error) {
	if err := durable.MakeDir(r.FS, r.dataDir); err != nil {
		return 0, err
	}
	lock, err := r.FS.Lock(r.FS.PathJoin(r.dataDir, lockName))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", volume.ErrInUse, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := checkTarget(r.FS, r.dataDir); err != nil {
		return 0, err
	}
	to := r.FS.PathJoin(r.dataDir, restoringName)
	if err := r.FS.RemoveAll(to); err != nil {
		return 0, fmt.Errorf("remove what an earlier attempt left: %w", err)
	}
	from := r.FS.PathJoin(r.path, journalName)
	if r.Leave == nil {
		err = r.copyJournal(ctx, from, to)
	} else {
		left, err = r.rewriteJournal(ctx, from, to)
	}
	if err == nil {
		err = r.FS.Rename(to, r.FS.PathJoin(r.dataDir, journalName))
	}
	if err != nil {
		_ = r.FS.RemoveAll(to) // the next attempt tries it again
		return 0, err
	}
	return left, durable.SyncDir(r.FS, r.dataDir)
}

// copyJournal copies the files of a journal, each of which must still be what the
// manifest says.
func (r *restorer) copyJournal(ctx context.Context, from, to string) error {
	if err := r.FS.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, f := range r.m.Files {
		sum, err := copyFile(ctx, r.FS, r.FS.PathJoin(from, f.Name), r.FS.PathJoin(to, f.Name), r.work.read)
		if err != nil {
			return fmt.Errorf("copy %s: %w", f.Name, err)
		}
		if sum != f.SHA256 {
			return damaged(from, "%s has changed since it was verified", f.Name)
		}
	}
	r.work.finish()
	return durable.SyncDir(r.FS, to)
}

// copyFile copies a file, forces the copy to the disk, and returns the SHA-256 of
// what was copied.
func copyFile(ctx context.Context, files vfs.FS, from, to string, read func(int64)) (sum string, err error) {
	in, err := files.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := files.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// A vfs.File may change what it is given to write; it has been hashed by then.
	if sum, _, err = digest(ctx, in, out, read); err != nil {
		return "", err
	}
	return sum, out.Sync()
}

// rewriteJournal writes a new journal with the entries that are not left out, and
// reads it again.
func (r *restorer) rewriteJournal(ctx context.Context, from, to string) (left int64, err error) {
	t := tally{epoch: r.m.Epoch}
	err = r.appendAll(ctx, from, to, func(e *kv.Entry) bool {
		if r.Leave(e) {
			left++
			return false
		}
		t.take(e)
		return true
	})
	if err != nil {
		return 0, err
	}
	got, err := countJournalAt(ctx, r.FS, to, r.m.Epoch, r.work)
	if err != nil {
		return 0, err
	}
	if want := t.contents(); got != want {
		return 0, fmt.Errorf("%d entries with root %s were written, and %d with root %s are there", want.Entries, want.Root, got.Entries, got.Root)
	}
	return left, durable.SyncDir(r.FS, to)
}

// pause is how many entries are appended before the disk has to have them.
const pause = 1 << 13

// appendAll appends what keep lets through to a new journal, and the vector.
func (r *restorer) appendAll(ctx context.Context, from, to string, keep func(*kv.Entry) bool) (err error) {
	j, err := disk.Open(to, disk.Options{FS: r.FS, Fsync: disk.Always})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	last, n := journal.Ticket(0), 0
	err = withJournal(r.FS, from, func(old *disk.Reader) error {
		err := load(ctx, old, r.work, func(e *kv.Entry) error {
			if !keep(e) {
				return nil
			}
			last = j.Append(&kv.Change{Entry: *e})
			if n++; n%pause == 0 {
				return j.Wait(ctx, last)
			}
			return nil
		})
		for _, mark := range old.Received() {
			last = j.Vouch(mark)
		}
		return err
	})
	if err != nil {
		return err
	}
	return j.Wait(ctx, last)
}

// identify makes the data directory that of a node, with a new volume id, and
// raises the bound of its clock.
func (r *restorer) identify(nodeID string) error {
	give := volume.Create
	if _, err := r.FS.Stat(r.FS.PathJoin(r.dataDir, volumeName)); err == nil {
		give = volume.Rename
	}
	if err := give(r.FS, r.dataDir, nodeID); err != nil {
		return err
	}
	v, err := volume.Open(r.dataDir, nodeID, volume.Options{FS: r.FS})
	if err != nil {
		return err
	}
	bound := r.m.Version.HLC
	return errors.Join(v.Reserve(bound), v.Close(bound))
}
