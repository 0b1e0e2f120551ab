package backup_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"merklekv/pkg/backup"
)

// copies returns a Source that copies the journal of a file system as it is, which
// is quick.
func copies(t testing.TB, files vfs.FS) backup.Source {
	t.Helper()
	j := newJournal(t, files)
	if err := j.Checkpoint("data/still"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return source(func(dir string) error {
		_, err := vfs.Clone(files, files, "data/still", dir, vfs.CloneSync)
		return err
	})
}

// However the clock jumps and the number of backups to keep changes: the new one
// stays, then the newest ones by their times, and what is not a good backup of this
// node is never touched.
func TestRotation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		files := vfs.NewMem()
		still := copies(t, files)
		strangers := []string{
			"node2-20200101T000000.000Z", "node1-x-20200101T000000.000Z", "notes", ".partial~node2-20200101T000000.000Z",
			"node1-20200101T000000.000Z", // has the form of this node's, but no manifest
		}
		for _, name := range strangers {
			if err := files.MkdirAll("backups/"+name, 0o700); err != nil {
				rt.Fatal(err)
			}
		}
		now := noon
		var want []string // by time, oldest first
		for range rapid.IntRange(1, 6).Draw(rt, "backups") {
			now = now.Add(time.Duration(rapid.IntRange(-100, 200).Draw(rt, "minutes")) * time.Minute)
			keep := rapid.IntRange(1, 4).Draw(rt, "keep")
			if rapid.Bool().Draw(rt, "a crash before") {
				left := "backups/.partial~node1-" + now.Add(-time.Hour).Format("20060102T150405.000Z")
				if err := files.MkdirAll(left+"/journal", 0o700); err != nil {
					rt.Fatal(err)
				}
			}
			m, err := backup.Create(rt.Context(), still, options(files, keep, func() time.Time { return now }))
			if err != nil {
				rt.Fatal(err)
			}
			want = rotated(append(want, m.Name()), keep)
			got := slices.DeleteFunc(names(t, files, "backups"), func(name string) bool { return slices.Contains(strangers, name) })
			expected := slices.Sorted(slices.Values(want))
			if !slices.Equal(got, expected) {
				rt.Fatalf("there are %q, want %q", got, expected)
			}
		}
		for _, name := range strangers {
			if _, err := files.Stat("backups/" + name); err != nil {
				rt.Errorf("%s has gone: %v", name, err)
			}
		}
	})
}

// rotated says which of some names, the last of them just made, are kept. Names of
// one node sort as their times do.
func rotated(all []string, keep int) []string {
	made := all[len(all)-1]
	older := slices.Sorted(slices.Values(all[:len(all)-1]))
	return append(older[max(0, len(older)-keep+1):], made)
}

func TestListShowsWhatCannotBeRead(t *testing.T) {
	files := vfs.NewMem()
	still := copies(t, files)
	now := clock()
	first, second := create(t, still, options(files, 5, now)), create(t, still, options(files, 5, now))
	put(t, files, "backups/"+first.Name()+"/backup.json", []byte("{}"))
	stranger := "node2" + strings.TrimPrefix(second.Name(), "node1")
	if _, err := vfs.Clone(files, files, "backups/"+second.Name(), "backups/"+stranger); err != nil {
		t.Fatal(err)
	}
	list, err := backup.List(files, "backups")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		got = append(got, fmt.Sprint(b.Name, " ", b.Err == nil))
	}
	want := []string{second.Name() + " true", stranger + " false", first.Name() + " false"}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}
