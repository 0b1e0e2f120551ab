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
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

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
// open: it writes a new journal with all entries outside the damage and the vector,
// sets the old directory aside as <dir>.damaged-<UTC time>, and puts the new one in
// its place. Nothing is deleted. A crash at any moment leaves the old journal or the
// new one, which the next Open finds.
//
// The vector says what was received, of which some is lost now: what is lost comes
// back by comparing with the peers, not from their logs. Where a range cannot be
// read, nothing of it is saved, not even what lies in a table that is whole: an
// older version there would bring back what was deleted since.
//
// A journal whose log or MANIFEST is damaged cannot be salvaged, for what is left
// would be an older state: the error is that of Open, and nothing is changed.
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
	err = rescue(db, dir, &report, o)
	if err := errors.Join(err, db.Close()); err != nil {
		return report, fmt.Errorf("salvage %s: %w", dir, err)
	}
	report.Aside = dir + asideSuffix + time.Now().UTC().Format(asideTime)
	if err := exchange(o.FS, dir, report.Aside); err != nil {
		return report, fmt.Errorf("salvage %s: %w", dir, err)
	}
	o.Logger.Warn("the journal was damaged, and what can be read was saved; the rest comes from the peers",
		"component", "journal", "entries", report.Entries, "ranges_lost", len(report.Lost), "files", report.Files, "aside", report.Aside)
	return report, nil
}

// rescue writes what can be read into a new journal beside the old one.
func rescue(db *pebble.DB, dir string, report *Report, o SalvageOptions) (err error) {
	work := dir + salvagingSuffix
	if err := o.FS.RemoveAll(work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j, err := Open(work, Options{FS: o.FS})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	r := rescuer{db: db, to: j, report: report}
	return r.all()
}

// exchange puts the new journal in the place of the old one.
func exchange(fsys vfs.FS, dir, aside string) error {
	parent := fsys.PathDir(dir)
	for _, move := range [][2]string{
		{dir + salvagingSuffix, dir + salvagedSuffix}, // it is whole
		{dir, aside},
		{dir + salvagedSuffix, dir},
	} {
		if err := fsys.Rename(move[0], move[1]); err != nil {
			return err
		}
		if err := syncDir(fsys, parent); err != nil {
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
	return syncDir(fsys, fsys.PathDir(dir))
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
	// After the entries, so that it is never there without them.
	return r.between([]byte{kindVector}, []byte{kindVector + 1}, salvagePatience, func(key, value []byte) error {
		m, err := decodeMark(key, value)
		if err == nil {
			r.to.Vouch(m)
		}
		return err
	})
}

// entries saves the entries. Where one of the scripts cannot be read, none is
// known to be the newest, and all are lost.
func (r *rescuer) entries() error {
	var newer scripts
	if err := newer.gather(r.db, 0, math.MaxInt); err != nil {
		r.report.Lost = append(r.report.Lost, Range{})
		return r.met(err)
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
		if from[0] == kindEntry {
			r.report.Lost = append(r.report.Lost, Range{From: keyOf(from), To: keyOf(to)})
		}
		return nil
	}
	if err := r.between(from, middle, patience, save); err != nil {
		return err
	}
	return r.between(middle, to, patience, save)
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
