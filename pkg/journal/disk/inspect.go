package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// findings are what inspect learns of a journal.
type findings struct {
	mark   uint64           // random number of the journal
	lazy   bool             // its log is not synced when Pebble asks for it
	synced uint64           // number of the last group that the log says was on the disk
	torn   map[string]int64 // logs that power failures left torn: bytes that are whole
	sealed *seal            // of the MANIFEST in force; nil for a new journal
	name   string           // of that MANIFEST
}

// inspect looks at a journal's files before Pebble does, for damage that Pebble
// takes for the end of what was written: it would open what is left and delete the
// rest. Nothing is changed. A directory that is not there, or in which nothing was
// ever kept, is a new journal.
func inspect(fsys vfs.FS, dir string) (findings, error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return newFindings(), nil
	}
	if err != nil {
		return findings{}, err
	}
	manifest, err := atomicfs.ReadMarker(fsys, dir, "manifest")
	if err != nil {
		return findings{}, &DamageError{File: dir, Err: err}
	}
	if manifest == "" {
		return newFindings(), checkNew(fsys, dir, names)
	}
	if _, err := pebble.Peek(dir, fsys); err != nil {
		return findings{}, openError(dir, "", err)
	}
	manifest = fsys.PathJoin(dir, manifest)
	s, err := readSeal(fsys, manifest)
	if err != nil {
		return findings{}, err
	}
	if err := s.check(fsys, manifest); err != nil {
		return findings{}, err
	}
	found := findings{mark: s.mark, lazy: s.lazy, sealed: &s, name: manifest}
	return found, found.inspectLogs(fsys, dir)
}

// setLazy has seals say how the log is synced from now on. That it is lazy has to
// be known before anything is written to it. That it is not is said by the seals of
// the next MANIFEST only: the one in force lists lazy logs, which a power failure may
// have torn, until they are in tables. Pebble's first edit of a MANIFEST after it is
// opened says that they all are, and it begins a new one for that edit, which comes
// into force with it.
func (f *findings) setLazy(fsys vfs.FS, lazy bool) error {
	before := f.lazy
	f.lazy = lazy
	if f.sealed == nil || before || !lazy {
		return nil
	}
	f.sealed.lazy = true
	return f.sealed.write(fsys, f.name)
}

func newFindings() findings { return findings{mark: rand.Uint64()} }

// checkNew checks that a directory without a MANIFEST in force is one whose
// journal was never begun, for Pebble would begin one.
func checkNew(fsys vfs.FS, dir string, names []string) error {
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, logSuffix) {
			return &DamageError{File: fsys.PathJoin(dir, name), Err: errors.New(
				"the file that says which MANIFEST is in force (marker.manifest.*) is missing")}
		}
	}
	return nil
}

// inspectLogs looks whether all that the log says was on the disk can be read.
//
// Pebble sees for itself that a chunk of the log is damaged if one in a later block
// says that it was synced. It does not where the later one is in the same block,
// where the damage looks like the end of a log, or where a log ends early and a
// later one goes on. It also sees damage where there is none, if the log is lazy: then
// what its chunks say of syncs is not so, and a power failure leaves a torn end that
// later chunks belie. Trailers tell the truth there, and a log that was closed was
// synced, so only the last one can be torn.
func (f *findings) inspectLogs(fsys vfs.FS, dir string) error {
	logs, err := wal.Scan(wal.Dir{FS: fsys, Dirname: dir})
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	trails := make([]trail, len(logs))
	for i, log := range logs {
		if trails[i], err = follow(log, f.mark); err != nil {
			return err
		}
	}
	if last := len(trails) - 1; f.lazy && last >= 0 && trails[last].err != nil {
		f.torn = map[string]int64{trails[last].path: trails[last].end}
		trails[last].err = nil
	}
	f.synced = claim(trails)
	if !suspicious(trails) {
		return nil
	}
	return f.confirm(fsys, dir, trails)
}

// suspicious reports whether logs are not as they are after most crashes. They
// need not be damaged, for logs whose groups are in tables by now lie about, and
// parts of them in files that were taken for new logs.
func suspicious(trails []trail) bool {
	var last uint64
	for i := range trails {
		t := &trails[i]
		if t.err != nil || !t.clean && i < len(trails)-1 || t.gapAfter(last) {
			return true
		}
		last = max(last, t.last)
	}
	return last < claim(trails)
}

// confirm finds out whether suspicious logs are damaged: those that count are the
// ones that Pebble reads.
func (f *findings) confirm(fsys vfs.FS, dir string, trails []trail) error {
	seen := &logsOpened{FS: fsys, names: make(map[string]bool)}
	db, err := openToRead(seen, dir, *f)
	if err != nil {
		return err
	}
	defer db.Close()
	number, err := readNumber(db)
	if err != nil {
		return err
	}
	var before *trail
	for i := range trails {
		t := &trails[i]
		if !seen.names[t.path] || t.last == 0 {
			continue
		}
		if before != nil && t.gapAfter(before.last) {
			return &DamageError{File: before.path, Err: fmt.Errorf(
				"it ends with group %d, and the next log begins with group %d", before.last, t.first)}
		}
		before = t
	}
	if number < f.synced {
		d := &DamageError{File: dir, Err: fmt.Errorf(
			"group %d was on the disk, but the log can be read to group %d only", f.synced, number)}
		if before != nil {
			d.File = before.path
		}
		return d
	}
	return nil
}

// logsOpened notes which logs are opened.
type logsOpened struct {
	vfs.FS
	names map[string]bool
}

func (l *logsOpened) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if strings.HasSuffix(name, logSuffix) {
		l.names[name] = true
	}
	return l.FS.Open(name, opts...)
}

// Unwrap is part of vfs.FS.
func (l *logsOpened) Unwrap() vfs.FS { return l.FS }
