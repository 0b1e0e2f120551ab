package backup_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"merklekv/pkg/backup"
	"merklekv/pkg/hlc"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

var background = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// second0 is the first epoch in which entries of tests are stamped.
const second0 = 1_790_000_000

// at is a version stamped so many seconds after the first epoch began.
func at(seconds int64) kv.Version {
	return kv.Version{HLC: hlc.At((second0 + seconds) * 1000), Instance: 7}
}

func value(key string, seconds int64) kv.Entry {
	return kv.Entry{Key: []byte(key), Version: at(seconds), Value: []byte("value of " + key)}
}

func tombstone(key string, seconds int64) kv.Entry {
	return kv.Entry{Key: []byte(key), Version: at(seconds), Flags: kv.Tombstone}
}

func expiring(key string, seconds, until int64) kv.Entry {
	e := value(key, seconds)
	e.Flags, e.ExpiresAt = kv.HasExpiry, (second0+until)*1000
	return e
}

func reserved(facet string, seconds int64) kv.Entry {
	return kv.Entry{Facet: []byte(facet), Version: at(seconds), Value: []byte(facet)}
}

// sample is a little of everything.
func sample() []kv.Entry {
	return []kv.Entry{
		reserved("mnode1", 1), reserved("mnode2", 2), reserved("t", 10),
		value("killed by the mark", 3), tombstone("deleted long ago", 11), value("a", 12), value("b", 13),
		expiring("expired", 14, 15), expiring("alive", 14, 9000), tombstone("deleted", 20),
	}
}

// openJournal opens a journal in the data directory of a file system.
func openJournal(t testing.TB, files vfs.FS) *disk.Journal {
	t.Helper()
	j, err := disk.Open("data/journal", disk.Options{FS: files})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// write appends entries as changes of one origin.
func write(t testing.TB, j *disk.Journal, entries ...kv.Entry) {
	t.Helper()
	for i := range entries {
		ticket := j.Append(&kv.Change{Origin: 7, Seq: uint64(i + 1), Entry: entries[i]})
		if err := j.Wait(background, ticket); err != nil {
			t.Fatal(err)
		}
	}
}

// newJournal returns an open journal with the sample.
func newJournal(t testing.TB, files vfs.FS) *disk.Journal {
	t.Helper()
	if err := files.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, files)
	write(t, j, sample()...)
	return j
}

// noon is when the first backup of a test is made.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// clock returns times that are a minute apart.
func clock() func() time.Time {
	next := noon.Add(-time.Minute)
	return func() time.Time { next = next.Add(time.Minute); return next }
}

func options(files vfs.FS, keep int, now func() time.Time) backup.Options {
	return backup.Options{FS: files, Dir: "backups", NodeID: "node1", Volume: 0xABC, Program: "1.2.3", Keep: keep, Now: now}
}

func create(t testing.TB, source backup.Source, o backup.Options) backup.Manifest {
	t.Helper()
	m, err := backup.Create(t.Context(), source, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// verify verifies a backup of the directory by its name.
func verify(files vfs.FS, name string) error {
	_, err := backup.Verify(background, files.PathJoin("backups", name), backup.VerifyOptions{FS: files})
	return err
}

// names lists a directory.
func names(t testing.TB, files vfs.FS, dir string) []string {
	t.Helper()
	list, err := files.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// dump returns all entries of a journal as text.
func dump(t testing.TB, files vfs.FS, dir string) string {
	t.Helper()
	r, err := disk.OpenReadOnly(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = r.Load(func(e *kv.Entry) error { all = append(all, line(e)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.Received() {
		all = append(all, fmt.Sprintf("received %+v", m))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func line(e *kv.Entry) string {
	return fmt.Sprintf("%q/%q %v %d %d %q", e.Key, e.Facet, e.Version, e.Flags, e.ExpiresAt, e.Value)
}
