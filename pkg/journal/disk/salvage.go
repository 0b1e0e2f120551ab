package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/big"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/durable"
	"merklekv/pkg/kv"
)

// SalvageOptions configure Salvage. The zero value is the system's files and no log.
type SalvageOptions struct {
	FS     vfs.FS
	Logger *slog.Logger
}

// Report says what Salvage saved of a journal.
type Report struct {
	Entries int64    // that could be read, and are in the new journal
	Lost    []Range  // ranges of names whose entries could not be read
	Files   []string // that are damaged
	Aside   string   // where the damaged journal is now
}

// Range is a range of keys: of what was between From and To, nothing is known. An
// empty bound is the end of all keys.
type Range struct{ From, To []byte }

// Beside a journal's directory, while it is salvaged. The first is unfinished and
// worth nothing; the second is whole.
const (
	salvagingSuffix = ".salvaging"
	salvagedSuffix  = ".salvaged"
	asideSuffix     = ".damaged-"
	asideTime       = "20060102T150405.000Z"
)

// Salvage saves what can be read of a journal with damaged tables, which is not
// open: it writes a new journal with all entries outside the damage, sets the old
// directory aside as <dir>.damaged-<UTC time>, and puts the new one in its place.
// Nothing of the old one is deleted. A crash at any moment leaves the old journal or
// the new one, which the next Open finds.
//
// Where a range cannot be read, nothing of it is saved, not even what lies in a
// table that is whole: an older version there would bring back what was deleted
// since. If anything is lost, the vector is not saved either: it says what was
// received, and to whoever believes it a key that was lost does not exist, so that
// the next APPEND to it would overwrite what the peers have. Without one a node
// fetches everything from a peer before it serves.
//
// It refuses, with an error that wraps ErrDamaged, where what is left would be an
// older state: a log or MANIFEST is damaged, as found by Open; the reserved key
// cannot be read, whose truncation mark keeps dead what was truncated; or a script
// cannot, which may be newer than any entry. It also refuses where there is no room
// for a copy, with an error that wraps ENOSPC. After an error nothing has changed.
func Salvage(dir string, o SalvageOptions) (Report, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var report Report
	if err := resumeSalvage(o.FS, dir); err != nil {
		return report, fmt.Errorf("salvage %s: %w", dir, err)
	}
	found, err := inspect(o.FS, dir)
	if err != nil {
		return report, err
	}
	db, err := openToRead(o.FS, dir, found)
	if err != nil {
		return report, err
	}
	// A number that cannot be read itself tells nothing.
	if number, unread := readNumber(db); unread == nil && number < found.synced {
		err = &DamageError{File: dir, Err: fmt.Errorf(
			"the log says that group %d was on the disk, but it ends with group %d", found.synced, number)}
	} else {
		err = rescue(db, dir, &report, o)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return Report{}, fmt.Errorf("salvage %s: %w", dir, err)
	}
	report.Aside = dir + asideSuffix + time.Now().UTC().Format(asideTime)
	if err := exchange(o.FS, dir, report.Aside); err != nil {
		return Report{}, fmt.Errorf("salvage %s: %w", dir, err)
	}
	o.Logger.Warn("the journal was damaged, and what can be read was saved; the rest comes from the peers",
		"component", "journal", "entries", report.Entries, "ranges_lost", len(report.Lost), "files", report.Files, "aside", report.Aside)
	return report, nil
}

// rescue writes what can be read into a new journal beside the old one.
func rescue(db *pebble.DB, dir string, report *Report, o SalvageOptions) (err error) {
	if err := discardAttempts(o.FS, dir); err != nil {
		return err
	}
	if err := checkRoom(db, o.FS, dir); err != nil {
		return err
	}
	work := dir + salvagingSuffix
	defer func() {
		if err != nil {
			_ = o.FS.RemoveAll(work) // else the next attempt does it
		}
	}()
	j, err := Open(work, Options{FS: o.FS})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	r := rescuer{db: db, to: j, report: report}
	return r.all()
}

// discardAttempts removes what earlier attempts left beside a journal that is still
// there.
func discardAttempts(fsys vfs.FS, dir string) error {
	for _, suffix := range []string{salvagingSuffix, salvagedSuffix} {
		if err := fsys.RemoveAll(dir + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(fsys, fsys.PathDir(dir))
}

// buffersOfCopy is how many memory tables a copy may need on the disk, as logs and
// as tables that are not compacted yet, beside what it holds in the end.
const buffersOfCopy = 8

// checkRoom returns an error that wraps ENOSPC if the volume has not enough room for
// a copy: Pebble would try for ever to write the table that does not fit.
func checkRoom(db *pebble.DB, fsys vfs.FS, dir string) error {
	usage, err := fsys.GetDiskUsage(fsys.PathDir(dir))
	if err != nil {
		return nil // where nobody can tell, it is tried
	}
	o := fitted(options(fsys, nil, nil), fsys, dir)
	_, tables := size(db)
	need := uint64(tables) + db.Metrics().MemTable.Size + buffersOfCopy*o.MemTableSize
	if usage.AvailBytes < need {
		return fmt.Errorf("%w for a copy of what can be read: it takes up to %d MiB, and %d MiB are free; make room and start again",
			syscall.ENOSPC, need>>20+1, usage.AvailBytes>>20)
	}
	return nil
}

// exchange puts the new journal in the place of the old one. After an error either
// is in its place, or a start puts the new one there.
func exchange(fsys vfs.FS, dir, aside string) (err error) {
	defer func() {
		if err == nil {
			return
		}
		if _, there := fsys.Stat(dir); there == nil {
			_ = discardAttempts(fsys, dir) // else the next attempt does it
		}
	}()
	parent := fsys.PathDir(dir)
	for _, move := range [][2]string{
		{dir + salvagingSuffix, dir + salvagedSuffix}, // it is whole
		{dir, aside},
		{dir + salvagedSuffix, dir},
	} {
		if err := fsys.Rename(move[0], move[1]); err != nil {
			return err
		}
		if err := durable.SyncDir(fsys, parent); err != nil {
			return err
		}
	}
	return nil
}

// resumeSalvage puts a salvaged journal in its place if a crash kept Salvage from
// it.
func resumeSalvage(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := fsys.Stat(dir + salvagedSuffix); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := fsys.Rename(dir+salvagedSuffix, dir); err != nil {
		return err
	}
	return durable.SyncDir(fsys, fsys.PathDir(dir))
}

// rescuer reads a damaged journal and writes what it reads to another one.
type rescuer struct {
	db     *pebble.DB
	to     *Journal
	report *Report
	bounds [][]byte // of the tables, in order

	scratch []byte
}

// all saves what can be read of everything.
func (r *rescuer) all() error {
	if err := r.findBounds(); err != nil {
		return err
	}
	if err := r.entries(); err != nil {
		return err
	}
	if len(r.report.Lost) > 0 {
		return nil
	}
	return r.between([]byte{kindVector}, []byte{kindVector + 1}, salvagePatience, func(key, value []byte) error {
		m, err := decodeMark(key, value)
		if err == nil {
			r.to.Vouch(m)
		}
		return err
	})
}

// entries saves the entries. Where one of the scripts cannot be read, none is
// known to be the newest.
func (r *rescuer) entries() error {
	var newer scripts
	if err := newer.gather(r.db, 0, math.MaxInt); err != nil {
		if err := r.met(err); err != nil {
			return err
		}
		return r.refuse("the latest changes cannot be read, and without them what can be read is an older state")
	}
	err := r.between([]byte{kindEntry}, []byte{kindEntry + 1}, salvagePatience, r.save)
	if err != nil {
		return err
	}
	for _, l := range newer.lines {
		name, content, _, _ := nextLine(newer.slab[l.at:])
		if err := r.save(name, content); err != nil {
			return err
		}
	}
	return nil
}

// save writes one entry.
func (r *rescuer) save(name, content []byte) (err error) {
	var e kv.Entry
	if r.scratch, err = decodeEntry(&e, name, content, r.scratch); err != nil {
		return err
	}
	ticket := r.to.Append(&kv.Change{Entry: e})
	if r.report.Entries++; r.report.Entries%salvageGroup == 0 {
		return r.to.Wait(context.Background(), ticket)
	}
	return nil
}

const (
	salvageGroup    = 4096 // entries on their way to the disk at most
	salvagePatience = 16
)

func (r *rescuer) findBounds() error {
	levels, err := r.db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for i := range level {
			end := append(slices.Clone(level[i].Largest.UserKey), 0)
			r.bounds = append(r.bounds, level[i].Smallest.UserKey, end)
		}
	}
	slices.SortFunc(r.bounds, bytes.Compare)
	return nil
}

// between saves what can be read between two of Pebble's keys: all that is before
// the first damage, all that is after the last one, and then the same of what is
// left, in two parts, until that is in one block of a table. patience is how often
// more a part may be divided from which nothing can be read.
func (r *rescuer) between(from, to []byte, patience int, save func(key, value []byte) error) error {
	last, whole, err := r.scan(from, to, true, save)
	if whole || err != nil {
		return err
	}
	patience--
	if last != nil {
		from, patience = append(last, 0), salvagePatience
	}
	last, whole, err = r.scan(from, to, false, save)
	if whole || err != nil {
		return err
	}
	if last != nil {
		to, patience = last, salvagePatience
	}
	middle := r.split(from, to)
	if middle == nil || patience == 0 {
		return r.lose(from, to)
	}
	if err := r.between(from, middle, patience, save); err != nil {
		return err
	}
	return r.between(middle, to, patience, save)
}

// The names of the reserved key's facets are all from the first of these to before
// the second.
var (
	reservedFrom = []byte{kindEntry, 0, terminated}
	reservedTo   = []byte{kindEntry, 0, terminated + 1}
)

// lose takes down that what is between two of Pebble's keys is lost. Items of the
// vector that are lost do no harm: what they claimed is received again.
func (r *rescuer) lose(from, to []byte) error {
	if from[0] != kindEntry {
		return nil
	}
	if bytes.Compare(from, reservedTo) < 0 && bytes.Compare(reservedFrom, to) < 0 {
		return r.refuse("what says which keys were truncated (FLUSHDB) cannot be read, and without it they would all be there again")
	}
	r.report.Lost = append(r.report.Lost, Range{From: keyOf(from), To: keyOf(to)})
	return nil
}

// refuse returns why nothing is to be saved, with the file that is to blame.
func (r *rescuer) refuse(why string) error {
	d := &DamageError{Err: errors.New(why)}
	if n := len(r.report.Files); n > 0 {
		d.File = r.report.Files[n-1]
	}
	return d
}

// scan saves what is in a range, from its beginning or from its end on. It returns
// the last key that was saved, and whether that was all. Errors are those of
// saving.
func (r *rescuer) scan(from, to []byte, forward bool, save func(key, value []byte) error) (last []byte, whole bool, err error) {
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, false, r.met(err)
	}
	defer func() { _ = it.Close() }() // its error was looked at
	first, next := it.First, it.Next
	if !forward {
		first, next = it.Last, it.Prev
	}
	for ok := first(); ok; ok = next() {
		if err := save(it.Key(), it.Value()); err != nil {
			return nil, false, err
		}
		last = append(last[:0], it.Key()...)
	}
	return last, it.Error() == nil, r.met(it.Error())
}

// met takes down which file is damaged. Other errors it returns.
func (r *rescuer) met(err error) error {
	var d *DamageError
	if err == nil || !errors.As(damage(err), &d) {
		return err
	}
	if !slices.Contains(r.report.Files, d.File) {
		r.report.Files = append(r.report.Files, d.File)
	}
	return nil
}

// split returns a key between two others, nil if dividing them there leaves all of
// the blocks between them in both parts. Tables begin and end there first of all: one whose index is
// damaged cannot be read at all.
func (r *rescuer) split(from, to []byte) []byte {
	low, _ := slices.BinarySearchFunc(r.bounds, append(slices.Clone(from), 0), bytes.Compare)
	high, _ := slices.BinarySearchFunc(r.bounds, to, bytes.Compare)
	if low < high {
		return r.bounds[(low+high)/2]
	}
	middle := halfway(from, to)
	if middle == nil {
		return nil
	}
	whole, err := r.db.EstimateDiskUsage(from, to)
	if err != nil {
		return nil
	}
	left, errLeft := r.db.EstimateDiskUsage(from, middle)
	right, errRight := r.db.EstimateDiskUsage(middle, to)
	if errLeft != nil || errRight != nil || left >= whole && right >= whole {
		return nil
	}
	return middle
}

// halfway returns a key halfway between two others, as numbers; nil if there is
// none.
func halfway(from, to []byte) []byte {
	n := max(len(from), len(to)) + 1
	number := func(key []byte) *big.Int {
		return new(big.Int).SetBytes(append(slices.Clone(key), make([]byte, n-len(key))...))
	}
	sum := new(big.Int).Add(number(from), number(to))
	middle := sum.Rsh(sum, 1).FillBytes(make([]byte, n))
	if bytes.Compare(from, middle) >= 0 || bytes.Compare(middle, to) >= 0 {
		return nil
	}
	return middle
}

// keyOf returns the client's key at the beginning of one of Pebble's, which need
// not be whole.
func keyOf(name []byte) []byte {
	if name[0] != kindEntry {
		return nil
	}
	key, _, _ := bytes.Cut(name[1:], []byte{0, terminated})
	return bytes.ReplaceAll(key, []byte{0, escaped}, []byte{0})
}
