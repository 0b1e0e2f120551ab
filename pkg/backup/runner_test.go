package backup_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/backup"
)

func newRunner(t *testing.T, files vfs.FS, from backup.Source, interval time.Duration, registry prometheus.Registerer) *backup.Runner {
	t.Helper()
	r, err := backup.NewRunner(backup.RunnerOptions{
		Options: options(files, 2, nil), Source: from, Interval: interval, Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// In virtual time: the first backup soon after the start, then one each interval,
// not one at a start soon after one, and again as soon as the disk works again.
func TestRunnerMakesBackupsAtTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := vfs.NewMem()
		still := copies(t, files)
		var broken atomic.Bool
		from := source(func(dir string) error {
			if broken.Load() {
				return errors.New("broken")
			}
			return still.Checkpoint(dir)
		})
		count := func() int {
			list, err := backup.List(files, "backups")
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		run := func() (r *backup.Runner, stop func()) {
			r = newRunner(t, files, from, 10*time.Hour, nil)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { r.Run(ctx) })
			return r, func() { cancel(); wg.Wait() }
		}
		r, stop := run()
		if s := r.Status(); s.Last != nil || s.Failure != nil || s.Overdue || s.Age != 0 {
			t.Errorf("at the start: %+v", s)
		}
		time.Sleep(time.Minute)
		if n := count(); n != 1 {
			t.Fatalf("%d backups after a minute", n)
		}
		first := r.Status().Last.Name()
		time.Sleep(9 * time.Hour)
		if n, s := count(), r.Status(); n != 1 || s.Last.Name() != first || s.Age < 9*time.Hour || s.Overdue {
			t.Fatalf("%d backups after 9 hours, %+v", n, s)
		}
		stop()
		r, stop = run()
		time.Sleep(10 * time.Minute)
		if n, s := count(), r.Status(); n != 1 || s.Last == nil || s.Last.Name() != first {
			t.Fatalf("%d backups after another start, %+v", n, s)
		}
		broken.Store(true)
		time.Sleep(30 * time.Hour)
		if n, s := count(), r.Status(); n != 1 || s.Failure == nil || !s.Overdue {
			t.Fatalf("%d backups on a broken disk, %+v", n, s)
		}
		broken.Store(false)
		time.Sleep(time.Hour + time.Minute)
		if n, s := count(), r.Status(); n != 2 || s.Failure != nil || s.Overdue {
			t.Fatalf("%d backups on a disk that is well again, %+v", n, s)
		}
		r.Set(time.Hour, 1)
		time.Sleep(62 * time.Minute)
		if n := count(); n != 1 {
			t.Fatalf("%d backups with another interval and one to keep", n)
		}
		stop()
	})
}

func TestRunnerMakesOneAtATime(t *testing.T) {
	files := vfs.NewMem()
	still := copies(t, files)
	begun, goOn := make(chan struct{}), make(chan struct{})
	registry := prometheus.NewRegistry()
	r := newRunner(t, files, source(func(dir string) error {
		close(begun)
		<-goOn
		return still.Checkpoint(dir)
	}), time.Hour, registry)
	done := make(chan error)
	go func() { _, err := r.Now(t.Context(), nil); done <- err }()
	<-begun
	if _, err := r.Now(t.Context(), nil); !errors.Is(err, backup.ErrRunning) {
		t.Errorf("a second one at the same time: %v", err)
	}
	if !r.Status().Running || metric(t, registry, "merklekv_backup_running") != 1 {
		t.Error("it does not say that one is being made")
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if s.Running || s.Last == nil || metric(t, registry, "merklekv_backup_running") != 0 ||
		metric(t, registry, "merklekv_backup_size_bytes") != float64(s.Last.Bytes) ||
		metric(t, registry, "merklekv_backup_last_success_timestamp_seconds") != float64(s.Last.Created.UnixMilli())/1000 {
		t.Errorf("afterwards: %+v", s)
	}
}

// Close gives up what is being made, waits for it, and lets nothing begin.
func TestRunnerThatIsClosed(t *testing.T) {
	files := vfs.NewMem()
	still := copies(t, files)
	begun, closed := make(chan struct{}), make(chan struct{})
	var r *backup.Runner
	r = newRunner(t, files, source(func(dir string) error {
		close(begun)
		go func() { r.Close(); close(closed) }()
		select {
		case <-closed:
			t.Error("Close has not waited")
		case <-time.After(20 * time.Millisecond):
		}
		return still.Checkpoint(dir)
	}), time.Hour, nil)
	if _, err := r.Now(t.Context(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("what was being made: %v", err)
	}
	<-begun
	<-closed
	if _, err := r.Now(t.Context(), nil); !errors.Is(err, backup.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got := names(t, files, "backups"); len(got) != 0 {
		t.Errorf("there are %q", got)
	}
	r.Close()
}

func TestBackupThatNobodyWantsAnyMoreHasNotFailed(t *testing.T) {
	files := vfs.NewMem()
	registry := prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(t.Context())
	r := newRunner(t, files, source(func(string) error { cancel(); return context.Canceled }), time.Hour, registry)
	if _, err := r.Now(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := r.Status(); s.Failure != nil || metric(t, registry, "merklekv_backup_failures_total") != 0 {
		t.Errorf("counted as a failure: %+v", s)
	}
	if _, err := r.Now(t.Context(), nil); err == nil || r.Status().Failure == nil || metric(t, registry, "merklekv_backup_failures_total") != 1 {
		t.Errorf("a real failure: %v", err)
	}
}

func metric(t *testing.T, from prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
