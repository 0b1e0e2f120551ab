package disk_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"merklekv/pkg/internal/poll"
	"merklekv/pkg/journal/disk"
)

const patience = 30 * time.Second

// stall is a disk whose syncs do not return while it is on.
type stall struct {
	on   atomic.Bool
	ends chan struct{}
}

func (*stall) String() string { return "stall" }

func (s *stall) MaybeError(op errorfs.Op) error {
	if s.on.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
		<-s.ends
	}
	return nil
}

// On a disk that does not answer, what is appended is seen to pile up, and Close ends.
func TestDiskThatDoesNotAnswer(t *testing.T) {
	s := &stall{ends: make(chan struct{})}
	defer close(s.ends)
	j := open(t, dirOf, disk.Options{FS: errorfs.Wrap(vfs.NewCrashableMem(), s)})
	if j.Waiting() != 0 || j.Queued() != 0 {
		t.Errorf("nothing was appended: waiting %v, queued %d", j.Waiting(), j.Queued())
	}
	s.on.Store(true)
	const entries, size = 100, 10_000
	for seq := uint64(1); seq <= entries; seq++ {
		j.Append(writeOf(1, seq, size, size))
	}
	poll.Until(t, patience, func() bool { return j.Waiting() > 0 }, "the changes are on their way")
	if got := j.Queued(); got < entries*size/2 {
		t.Errorf("%d bytes are queued, %d were appended", got, entries*size)
	}
	j.CloseWithin(10 * time.Millisecond)
	if err := j.Close(); !errors.Is(err, disk.ErrFailed) {
		t.Errorf("Close on a disk that does not answer: %v", err)
	}
}

// A journal whose log cannot be replayed because no table can be written is not
// opened, and does not try for ever.
func TestOpenOnADiskThatTakesNoTables(t *testing.T) {
	files := vfs.NewCrashableMem()
	j := open(t, dirOf, disk.Options{FS: files})
	for seq := uint64(1); seq <= 100; seq++ {
		mustDo(t, j.Wait(t.Context(), j.Append(writeOf(1, seq, 200, 300))))
	}
	image := files.CrashClone(vfs.CrashCloneCfg{})
	mustDo(t, j.Close())
	noTables := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	})
	if _, err := disk.Open(dirOf, disk.Options{FS: errorfs.Wrap(image, noTables)}); !errors.Is(err, disk.ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("a disk that takes no tables: %v", err)
	}
}
