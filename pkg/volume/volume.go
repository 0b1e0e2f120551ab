package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/durable"
)

// Options configure a Volume. The zero value is for the system's files.
type Options struct {
	FS     vfs.FS       // nil: the system's files
	Logger *slog.Logger // nil: no log
	// Failed is called once, with the reason, when a write or a sync has failed for
	// another reason than a full disk: nothing can be reserved any more. It must not
	// block. May be nil.
	Failed func(error)
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "volume")
	return o
}

// Volume is a data directory that this process has to itself. Its methods may be
// called by several goroutines.
type Volume struct {
	identity
	opts  Options
	dir   string
	found hlc.Timestamp
	lock  io.Closer

	mu     sync.Mutex // held while the file clock is written: whoever waits for it waits for that
	bound  hlc.Timestamp
	failed error // why nothing can be written any more
	closed bool
}

// Open locks the data directory of a node, and makes it if it is absent or empty.
//
// It returns a *WrongNodeError for the data of another node, and errors that wrap
// ErrInUse, ErrNewerFormat, ErrDamaged and ErrNotVolume; nothing has changed then.
func Open(dir, nodeID string, o Options) (v *Volume, err error) {
	o = o.withDefaults()
	if err := checkNodeID(nodeID); err != nil {
		return nil, err
	}
	if err := durable.MakeDir(o.FS, dir); err != nil {
		return nil, fmt.Errorf("make data directory %q: %w", dir, err)
	}
	// Without an identity a directory of somebody else's gets no file of ours.
	if _, err := readOrNone(o.FS, dir); err != nil {
		return nil, err
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(dir, lockName))
	if err != nil {
		return nil, lockError(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	v = &Volume{opts: o, dir: dir, lock: lock}
	return v, v.open(nodeID)
}

// open reads the directory, which is locked, or makes it a volume.
func (v *Volume) open(nodeID string) error {
	there, err := readOrNone(v.opts.FS, v.dir)
	if err != nil {
		return err
	}
	if there == nil {
		made, err := makeIdentity(v.opts.FS, v.dir, nodeID)
		if err != nil {
			return err
		}
		v.identity = made
		v.opts.Logger.Info("new data directory", "dir", v.dir, "node_id", nodeID, "volume", v.idText())
		return nil
	}
	v.identity = *there
	if v.nodeID != nodeID {
		return &WrongNodeError{Dir: v.dir, OnDisk: v.nodeID, Configured: nodeID}
	}
	bound, found, err := readBound(v.opts.FS, v.dir)
	if err != nil {
		return err
	}
	v.found, v.bound = bound, bound
	v.opts.Logger.Info("data directory opened", "dir", v.dir, "volume", v.idText(), "bound_known", found, "bound", bound.String())
	return nil
}

// makeIdentity writes a new identity.
func makeIdentity(fsys vfs.FS, dir, nodeID string) (identity, error) {
	v := newIdentity(nodeID, time.Now())
	if err := durable.ReplaceFile(fsys, fsys.PathJoin(dir, identityName), v.encode()); err != nil {
		return identity{}, fmt.Errorf("write %s: %w", fsys.PathJoin(dir, identityName), err)
	}
	return v, nil
}

// readIdentity returns the identity of a directory. Its errors wrap fs.ErrNotExist
// when there is none, ErrDamaged and ErrNewerFormat.
func readIdentity(fsys vfs.FS, dir string) (identity, error) {
	path := fsys.PathJoin(dir, identityName)
	data, err := read(fsys, path)
	if err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	return decodeIdentity(data, path)
}

// readOrNone returns the identity of a directory, or nil when it holds nothing of a
// volume. When it holds a volume without an identity, the error wraps ErrNotVolume.
func readOrNone(fsys vfs.FS, dir string) (*identity, error) {
	v, err := readIdentity(fsys, dir)
	switch {
	case err == nil:
		return &v, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list data directory %q: %w", dir, err)
	}
	ours := slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(orphans, name) })
	if len(ours) == 0 {
		return nil, nil
	}
	return nil, notVolume(dir, ours)
}

// orphans are the names that a volume has only with an identity. What else lies in
// the directory, such as a log file or backups, is somebody else's and is left alone.
var orphans = []string{journalName, clockName}

func notVolume(dir string, names []string) error {
	slices.Sort(names)
	return fmt.Errorf("%w: %q holds %s, but no %s: if the journal in it is this node's, "+
		"\"merklekv data rename NODE_ID --yes --data-dir %s\" writes the identity anew; else set storage.data_dir to another directory",
		ErrNotVolume, dir, strings.Join(names, ", "), identityName, dir)
}

// ID returns the number of the volume, random and never 0. A copy has the same.
func (v *Volume) ID() uint64 { return v.id }

func (v *Volume) idText() string { return fmt.Sprintf("%016x", v.id) }

// Dir returns the data directory.
func (v *Volume) Dir() string { return v.dir }

// JournalDir returns where the journal is. Open does not make it.
func (v *Volume) JournalDir() string { return v.opts.FS.PathJoin(v.dir, journalName) }

// Bound returns the upper bound of all timestamps issued before Open, 0 when none is
// known. The clock has to be raised to it before it issues one.
func (v *Volume) Bound() hlc.Timestamp { return v.found }

// Reserve makes the bound at least t, durably. No greater timestamp may be issued
// before it has returned nil. It does nothing where the bound is t already.
//
// After an error that is not of a full disk, or of too many open files, every further
// call fails with the same one. After Close it returns ErrClosed.
func (v *Volume) Reserve(t hlc.Timestamp) error {
	first, err := v.reserve(t)
	if first && v.opts.Failed != nil {
		v.opts.Failed(err)
	}
	return err
}

// reserve is Reserve; first reports whether the volume has failed by this call.
func (v *Volume) reserve(t hlc.Timestamp) (first bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.closed:
		return false, ErrClosed
	case v.failed != nil:
		return false, v.failed
	case t <= v.bound:
		return false, nil
	}
	err = v.writeBoundLocked(t)
	return v.failed != nil, err
}

func (v *Volume) writeBoundLocked(t hlc.Timestamp) error {
	err := durable.ReplaceFile(v.opts.FS, v.opts.FS.PathJoin(v.dir, clockName), encodeBound(t))
	if err != nil {
		err = fmt.Errorf("write %s: %w", v.opts.FS.PathJoin(v.dir, clockName), err)
		if !passing(err) {
			v.failed = err
		}
		return err
	}
	v.bound = t
	return nil
}

// Close makes last the bound, exactly, and gives the directory back. last is the
// greatest timestamp that was issued or observed; the clock must issue none any more.
// A smaller one than Open found changes nothing, since nothing was issued then.
//
// With an error the bound is what was reserved last, which is safe too. Further calls
// do nothing and return nil.
func (v *Volume) Close(last hlc.Timestamp) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	var err error
	if last = max(last, v.found); v.failed == nil && last != v.bound {
		err = v.writeBoundLocked(last)
	}
	return errors.Join(err, v.lock.Close())
}
