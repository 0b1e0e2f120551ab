package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/journal/disk"
)

// everyByteEnv asks TestFlippedBytes for every byte of every file, which takes
// minutes.
const everyByteEnv = "MERKLEKV_TEST_EVERY_BYTE"

// scene is a journal's files and what is in them.
type scene struct {
	files *vfs.MemFS
	want  content
	// lastLost is the content without the last group in the log. That damage there
	// looks like a group that was being written is in DESIGN.md; nil where the
	// journal was closed.
	lastLost *content
}

// dirOf is where the journals of these tests lie.
const dirOf = "data/journal"

// closedScene is a journal that was closed, with tables of several lives.
func closedScene(t *testing.T) scene {
	files := vfs.NewCrashableMem()
	var seq uint64
	for range 3 {
		j := open(t, dirOf, disk.Options{FS: files})
		for range 300 {
			seq++
			ticket := j.Append(writeOf(1, seq, 200, 100))
			if seq%8 == 0 { // small groups: of large chunks Pebble looks for the flipped bit for seconds
				mustDo(t, j.Wait(t.Context(), ticket))
			}
		}
		mustDo(t, j.Close())
	}
	// A life without writes takes the old logs away, from which what a damaged
	// MANIFEST has forgotten would come back.
	mustDo(t, open(t, dirOf, disk.Options{FS: files}).Close())
	return scene{files: files, want: mustContent(t, files, dirOf)}
}

// crashedScene is a journal whose process ended at once, with groups in the log
// that are in no table.
func crashedScene(t *testing.T) scene {
	s := closedScene(t)
	j := open(t, dirOf, disk.Options{FS: s.files})
	defer j.Close()
	write := func(from, to uint64) content {
		for seq := from; seq < to; seq++ {
			if err := j.Wait(t.Context(), j.Append(writeOf(1, seq, 200, 100+int(seq%7)*300))); err != nil {
				t.Fatal(err)
			}
		}
		return mustContent(t, s.files.CrashClone(vfs.CrashCloneCfg{}), dirOf)
	}
	before := write(901, 960)
	s.want, s.lastLost = write(960, 961), &before
	s.files = s.files.CrashClone(vfs.CrashCloneCfg{})
	return s
}

// TestFlippedBytes flips bytes in every kind of file. What comes of it is an error
// that names the file, or all that was written: never anything else, and not when
// the journal is opened a second time either.
func TestFlippedBytes(t *testing.T) {
	checkLeaks(t)
	for name, build := range map[string]func(*testing.T) scene{"closed": closedScene, "crashed": crashedScene} {
		t.Run(name, func(t *testing.T) {
			s := build(t)
			names, err := s.files.List(dirOf)
			mustDo(t, err)
			outcomes := make(map[string]int)
			for _, file := range names {
				for _, at := range positions(t, s.files, file) {
					outcome := s.flip(t, file, at)
					outcomes[kindOf(file)+": "+outcome]++
					if t.Failed() {
						return
					}
				}
			}
			for outcome, n := range outcomes {
				t.Logf("%5d x %s", n, outcome)
			}
		})
	}
}

func kindOf(file string) string {
	if ext := path.Ext(file); ext != "" {
		return ext
	}
	kind, _, _ := strings.Cut(file, "-")
	return kind
}

// positions returns which bytes of a file to flip: all of a small file, and of a
// large one those at its ends and some between.
func positions(t *testing.T, files vfs.FS, file string) (at []int64) {
	info, err := files.Stat(files.PathJoin(dirOf, file))
	mustDo(t, err)
	edge, size, stride := int64(6), info.Size(), info.Size()/30+1
	switch {
	case os.Getenv(everyByteEnv) != "":
		stride = 1
	case raceEnabled:
		edge, stride = 1, info.Size()/6+1
	}
	for i := int64(0); i < size; {
		at = append(at, i)
		if i < edge || i >= size-edge*8 {
			i++
			continue
		}
		i = min(i+stride, max(i+1, size-edge*8))
	}
	return at
}

// flip damages one byte of a copy and opens it, twice.
func (s *scene) flip(t *testing.T, file string, at int64) (outcome string) {
	t.Helper()
	files := s.files.CrashClone(vfs.CrashCloneCfg{})
	name := files.PathJoin(dirOf, file)
	flipByte(t, files, name, at)
	for attempt := range 2 {
		outcome = s.tryOpen(t, files, file)
		if t.Failed() {
			t.Fatalf("%s, byte %d, attempt %d", file, at, attempt)
		}
	}
	return outcome
}

func (s *scene) tryOpen(t *testing.T, files vfs.FS, file string) string {
	t.Helper()
	j, err := disk.Open(dirOf, disk.Options{FS: files, Failed: func(error) {}})
	if err != nil {
		return refused(t, file, err)
	}
	got, err := contentOf(j)
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err != nil {
		return refused(t, file, err)
	}
	diff := got.diff(s.want)
	switch {
	case diff == "":
		return "all is there"
	case s.lastLost != nil && strings.HasSuffix(file, ".log") && got.diff(*s.lastLost) == "":
		return "the last group is not there"
	}
	t.Errorf("wrong content:\n%s", diff)
	return ""
}

func refused(t *testing.T, file string, err error) string {
	t.Helper()
	if !strings.Contains(err.Error(), file) {
		t.Errorf("the error does not name the file: %v", err)
	}
	switch {
	case errors.Is(err, disk.ErrDamaged):
		return "damaged"
	case errors.Is(err, disk.ErrNewer):
		return "newer"
	}
	t.Errorf("the error is no DamageError: %v", err)
	return fmt.Sprintf("other error: %.60s", err)
}

func flipByte(t testing.TB, files vfs.FS, name string, at int64) {
	t.Helper()
	f, err := files.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	mustDo(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	mustDo(t, err)
	b[0] ^= 1 << (at % 8)
	_, err = f.WriteAt(b[:], at)
	mustDo(t, err)
	mustDo(t, f.Close())
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
