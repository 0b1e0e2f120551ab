package disk_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/journal/journaltest"
)

// journalAt is a journal that knows where it lies.
type journalAt struct {
	*disk.Journal
	dir string
	fs  vfs.FS
}

func open(t testing.TB, dir string, o disk.Options) journalAt {
	t.Helper()
	j, err := disk.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return journalAt{j, dir, o.FS}
}

func TestSuite(t *testing.T) {
	for name, fsync := range map[string]disk.Fsync{"always": disk.Always, "interval": disk.Interval, "never": disk.Never} {
		for where, fs := range map[string]func() vfs.FS{
			"on the system's files": func() vfs.FS { return nil },
			"in memory":             func() vfs.FS { return vfs.NewMem() },
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				journaltest.Run(t, journaltest.Kind{
					Open: func(t testing.TB) journal.Journal {
						o := disk.Options{FS: fs(), Fsync: fsync}
						return open(t, t.TempDir(), o)
					},
					Reopen: func(t testing.TB, j journal.Journal) journal.Journal {
						if err := j.Close(); err != nil {
							t.Fatal(err)
						}
						return open(t, j.(journalAt).dir, disk.Options{FS: j.(journalAt).fs, Fsync: fsync})
					},
				})
			})
		}
	}
}
