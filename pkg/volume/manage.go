package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/durable"
)

// Info is what can be seen of a data directory from outside.
type Info struct {
	Format       int
	NodeID       string
	ID           uint64
	Created      time.Time
	Bound        hlc.Timestamp // 0 when none is known
	JournalBytes int64         // sizes of the journal's files
	Aside        []string      // names of journals that Reseed has set aside, oldest first
}

// Inspect reads a data directory, which may be in use. With an error, which wraps
// what Open would find, Info has what could be read all the same.
func Inspect(fsys vfs.FS, dir string) (Info, error) {
	var info Info
	names, err := fsys.List(dir)
	if err != nil {
		return info, fmt.Errorf("list data directory: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, asidePrefix) {
			info.Aside = append(info.Aside, name)
		}
	}
	slices.Sort(info.Aside)
	bytes, sizeErr := size(fsys, fsys.PathJoin(dir, journalName))
	info.JournalBytes = bytes
	v, err := readExisting(fsys, dir)
	if err != nil {
		return info, errors.Join(err, sizeErr)
	}
	info.Format, info.NodeID, info.ID, info.Created = v.format, v.nodeID, v.id, v.created
	bound, _, err := readBound(fsys, dir)
	info.Bound = bound
	return info, errors.Join(err, sizeErr)
}

// readExisting returns the identity of a volume that has to be there.
func readExisting(fsys vfs.FS, dir string) (identity, error) {
	v, err := readOrNone(fsys, dir)
	if err != nil {
		return identity{}, err
	}
	if v == nil {
		return identity{}, fmt.Errorf("%w: %q holds no data", ErrNotVolume, dir)
	}
	return *v, nil
}

// Create gives a directory an identity, with a new volume id, whatever else it holds:
// it is for a journal that was restored into it. It fails when there is one already,
// and with ErrInUse.
func Create(fsys vfs.FS, dir, nodeID string) error {
	if err := checkNodeID(nodeID); err != nil {
		return err
	}
	if err := durable.MakeDir(fsys, dir); err != nil {
		return fmt.Errorf("make data directory %q: %w", dir, err)
	}
	return locked(fsys, dir, func() error {
		there, err := exists(fsys, fsys.PathJoin(dir, identityName))
		if err == nil && there {
			err = fmt.Errorf("%q has an identity already: %w", dir, fs.ErrExist)
		}
		if err == nil {
			_, err = makeIdentity(fsys, dir, nodeID)
		}
		return err
	})
}

// Rename gives a volume to another node, or to the same, and draws a new volume id,
// so that a copy is none any more. A damaged identity is replaced, a lost one too if
// there is a journal. It fails with ErrInUse, ErrNotVolume and ErrNewerFormat.
func Rename(fsys vfs.FS, dir, nodeID string) error {
	if err := checkNodeID(nodeID); err != nil {
		return err
	}
	journal, err := exists(fsys, fsys.PathJoin(dir, journalName))
	if err != nil {
		return fmt.Errorf("look for a journal: %w", err)
	}
	if _, err := readExisting(fsys, dir); err != nil && !errors.Is(err, ErrDamaged) && !(journal && errors.Is(err, ErrNotVolume)) {
		return err
	}
	return locked(fsys, dir, func() error {
		old, err := readIdentity(fsys, dir)
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		created := old.created
		if created.IsZero() {
			created = time.Now()
		}
		if err := durable.ReplaceFile(fsys, fsys.PathJoin(dir, identityName), newIdentity(nodeID, created).encode()); err != nil {
			return fmt.Errorf("write %s: %w", fsys.PathJoin(dir, identityName), err)
		}
		return nil
	})
}

// Reseed sets the journal of a volume aside, whole, as journal.damaged-<UTC time>, and
// returns where it is then; the next start begins with an empty one. What unfinished
// salvaging left goes, lest that start takes it for the journal. Identity and clock
// stay. It fails with ErrInUse, with what Open finds wrong with the identity,
// and with an error that wraps fs.ErrNotExist when there is no journal.
func Reseed(fsys vfs.FS, dir string) (aside string, err error) {
	if _, err := readExisting(fsys, dir); err != nil {
		return "", err
	}
	err = locked(fsys, dir, func() error {
		journal, err := findJournal(fsys, dir)
		if err != nil {
			return fmt.Errorf("look for a journal: %w", err)
		}
		if aside, err = freeName(fsys, fsys.PathJoin(dir, asidePrefix+time.Now().UTC().Format("20060102T150405Z"))); err != nil {
			return err
		}
		if err := fsys.Rename(journal, aside); err != nil {
			return fmt.Errorf("set the journal aside: %w", err)
		}
		return durable.SyncDir(fsys, dir)
	})
	if err != nil {
		return "", err
	}
	return aside, nil
}

// Names beside a journal whose salvaging was broken off (disk.Salvage): a copy that
// is unfinished, and one that is whole, which a start takes if there is no journal.
const (
	salvagingName = journalName + ".salvaging"
	salvagedName  = journalName + ".salvaged"
)

// findJournal returns the path of a volume's journal, which need not be there. Copies
// of it that are not the journal are removed, durably.
func findJournal(fsys vfs.FS, dir string) (journal string, err error) {
	journal = fsys.PathJoin(dir, journalName)
	salvaged := fsys.PathJoin(dir, salvagedName)
	copies := []string{fsys.PathJoin(dir, salvagingName)}
	there, err := exists(fsys, journal)
	if err != nil {
		return "", err
	}
	if there {
		copies = append(copies, salvaged)
	} else if there, err = exists(fsys, salvaged); err != nil {
		return "", err
	} else if there {
		journal = salvaged // the damaged one was set aside already
	}
	for _, path := range copies {
		if err := fsys.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return journal, durable.SyncDir(fsys, dir)
}

// freeName returns path, or path with a number after it, whichever is not there.
func freeName(fsys vfs.FS, path string) (string, error) {
	name := path
	for n := 2; ; n++ {
		if there, err := exists(fsys, name); err != nil || !there {
			return name, err
		}
		name = fmt.Sprintf("%s-%d", path, n)
	}
}

// locked runs do while it holds the directory's lock.
func locked(fsys vfs.FS, dir string, do func() error) error {
	lock, err := fsys.Lock(fsys.PathJoin(dir, lockName))
	if err != nil {
		return lockError(dir, err)
	}
	return errors.Join(do(), lock.Close())
}
