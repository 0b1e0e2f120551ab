package disk_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"merklekv/pkg/journal/disk"
)

// failNth fails the nth operation that writes, and all after it if it is for ever.
type failNth struct {
	n       int64
	forEver bool
	count   atomic.Int64
	failed  atomic.Bool
}

func (*failNth) String() string { return "fail the nth" }

func (f *failNth) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpLock {
		return nil
	}
	if n := f.count.Add(1); n == f.n || f.forEver && n > f.n {
		f.failed.Store(true)
		return errorfs.ErrInjected
	}
	return nil
}

// TestFailingOperations fails the nth operation that writes or syncs, once or from
// then on, for every n. Nothing hangs, a failure is told once, and what was
// acknowledged is on the disk.
func TestFailingOperations(t *testing.T) {
	for _, forEver := range []bool{false, true} {
		t.Run(fmt.Sprintf("for ever=%v", forEver), func(t *testing.T) {
			told, n := 0, int64(1)
			for ; ; n++ {
				f := &failNth{n: n, forEver: forEver}
				if failOnce(t, f) {
					told++
				}
				if t.Failed() {
					t.Fatalf("operation %d fails", n)
				}
				if !f.failed.Load() {
					break
				}
			}
			t.Logf("%d operations failed; %d times the journal did", n-1, told)
			if told == 0 {
				t.Error("no failure was told")
			}
		})
	}
}

// failOnce lives one life of a journal, and looks at what a crash after it leaves.
func failOnce(t *testing.T, f *failNth) (told bool) {
	files := vfs.NewCrashableMem()
	var acked [writers + 1]uint64
	var tellings atomic.Int32
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		acked[1] = failingLife(t, errorfs.Wrap(files, f), &tellings)
	}()
	select {
	case <-finished:
	case <-time.After(30 * time.Second):
		t.Error("it hangs")
		return false
	}
	if tellings.Load() > 1 {
		t.Errorf("the failure was told %d times", tellings.Load())
	}
	checkImage(t, files.CrashClone(vfs.CrashCloneCfg{}), acked)
	return tellings.Load() > 0
}

// failingLife opens a journal, appends in groups of several, and closes it. It
// returns how many changes were acknowledged.
func failingLife(t *testing.T, files vfs.FS, tellings *atomic.Int32) (acked uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	j, err := disk.Open(dirOf, disk.Options{FS: files, Failed: func(error) { tellings.Add(1) }})
	if err != nil {
		return 0
	}
	for seq := uint64(1); seq <= 60; seq++ {
		ticket := appendStep(j, 1, seq)
		if seq%4 != 0 {
			continue
		}
		switch err := j.Wait(ctx, ticket); {
		case err == nil && tellings.Load() > 0 && ticket > j.Durable():
			t.Error("acknowledged after the failure")
		case err == nil:
			acked = seq
		case !errors.Is(err, disk.ErrFailed):
			t.Errorf("Wait: %v", err)
		}
	}
	err = j.Close()
	if failed := tellings.Load() > 0; failed && !errors.Is(err, disk.ErrFailed) {
		t.Errorf("Close of a failed journal: %v", err)
	}
	return acked
}
