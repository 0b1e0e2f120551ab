package diskspace

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"merklekv/pkg/internal/poll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// smallFS is a volume of a size, in memory, that others share.
type smallFS struct {
	*vfs.MemFS
	total  uint64
	others atomic.Uint64 // bytes that others have taken
	broken atomic.Bool   // it cannot be asked for space
}

const dir = "data"

func newSmallFS(t *testing.T, total uint64) *smallFS {
	t.Helper()
	fs := &smallFS{MemFS: vfs.NewMem(), total: total}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return fs
}

func (fs *smallFS) free() uint64 {
	used := fs.others.Load()
	names, _ := fs.List(dir)
	for _, name := range names {
		if info, err := fs.Stat(fs.PathJoin(dir, name)); err == nil {
			used += uint64(info.Size())
		}
	}
	return fs.total - min(used, fs.total)
}

func (fs *smallFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if fs.broken.Load() {
		return vfs.DiskUsage{}, syscall.EIO
	}
	return vfs.DiskUsage{AvailBytes: fs.free(), TotalBytes: fs.total}, nil
}

func (fs *smallFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.MemFS.Create(name, c)
	return &smallFile{f, fs}, err
}

// ballast returns the size of the file in reserve.
func (fs *smallFS) ballast() uint64 {
	info, err := fs.Stat(fs.PathJoin(dir, ballastName))
	if err != nil {
		return 0
	}
	return uint64(info.Size())
}

type smallFile struct {
	vfs.File
	fs *smallFS
}

func (f *smallFile) Write(b []byte) (int, error) {
	if uint64(len(b)) > f.fs.free() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(b)
}

// changes keeps what a watcher tells.
type changes struct {
	mu   sync.Mutex
	told []bool
}

func (c *changes) add(full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, full)
}

func (c *changes) are(want ...bool) func() bool {
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Equal(c.told, want)
	}
}

func watch(t *testing.T, o Options) *Watcher {
	t.Helper()
	o.Dir = dir
	if o.Changed == nil {
		o.Changed = func(bool) {}
	}
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func run(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// A disk fills, to the brim, and has space again: each is told once, and the ballast
// goes when a write needs it, not before, and comes back.
func TestWatcher(t *testing.T) {
	fs, told := newSmallFS(t, 1<<30), &changes{} // Low 256, Clear 320, Ballast 16 MiB
	registry := prometheus.NewRegistry()
	w := watch(t, Options{FS: fs, Changed: told.add, Registerer: registry})
	if fs.ballast() != 0 || w.State().Full {
		t.Fatalf("before it runs: %+v", w.State())
	}
	run(t, w)
	poll.Until(t, patience, func() bool { return w.State().Reserved && fs.ballast() == 16*mib }, "the ballast is there")
	fs.others.Store(800 * mib)
	poll.Until(t, patience, told.are(false, true), "full is told")
	if fs.ballast() != 16*mib || value(t, registry, "merklekv_disk_full") != 1 || value(t, registry, "merklekv_disk_ballast_bytes") != 16*mib {
		t.Errorf("full: %+v", w.State())
	}
	fs.others.Store(1020 * mib)
	poll.Until(t, patience, func() bool { return w.State().Free == 0 }, "the brim is seen")
	if fs.ballast() != 16*mib {
		t.Error("the ballast went though no write asked for it: who fills the disk would have it")
	}
	w.Relieve()
	poll.Until(t, patience, func() bool { return fs.ballast() == 0 && !w.State().Reserved }, "the ballast is gone")
	fs.others.Store(700 * mib) // 324 free: not full any more, not enough for the ballast
	poll.Until(t, patience, told.are(false, true, false), "space is told")
	fs.others.Store(600 * mib)
	poll.Until(t, patience, func() bool { return w.State().Reserved && fs.ballast() == 16*mib }, "the ballast is back")
	poll.Until(t, patience, func() bool { return value(t, registry, "merklekv_disk_free_bytes") == 408*mib }, "the metric follows")
	if !told.are(false, true, false)() {
		t.Errorf("told %v", told.told)
	}
}

func value(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A node that starts on a full disk knows it, and has given the ballast back, before
// it writes anything.
func TestOpenOnAFullDisk(t *testing.T) {
	fs := newSmallFS(t, 1<<30)
	if err := (&ballast{fs, fs.PathJoin(dir, ballastName)}).make(16*mib, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	fs.others.Store(1<<30 - 16*mib)
	w := watch(t, Options{FS: fs})
	if s := w.State(); !s.Full || s.Reserved || s.Free != 16*mib || fs.ballast() != 0 {
		t.Errorf("%+v with a ballast of %d", s, fs.ballast())
	}
	told := &changes{}
	w.opts.Changed = told.add
	run(t, w)
	poll.Until(t, patience, told.are(true), "full is told first")
}

// What a crash left of a ballast is none.
func TestHalfABallastIsNone(t *testing.T) {
	fs := newSmallFS(t, 1<<30)
	f, err := fs.Create(fs.PathJoin(dir, ballastName), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w := watch(t, Options{FS: fs})
	if fs.ballast() != 0 || w.State().Reserved {
		t.Errorf("%d bytes are left, %+v", fs.ballast(), w.State())
	}
}

// A write that finds no space gets that of the ballast, before anybody has looked.
func TestRelieveLetsAWriteGoOn(t *testing.T) {
	fs, told := newSmallFS(t, 1<<30), &changes{}
	w := watch(t, Options{FS: fs, Changed: told.add})
	w.look()
	if fs.ballast() == 0 {
		t.Fatal("no ballast")
	}
	fs.others.Store(fs.total - 16*mib)
	engine := w.EngineFS()
	if _, err := engine.Create(fs.PathJoin(dir, "000007.sst"), vfs.WriteCategoryUnspecified); !vfs.IsNoSpaceError(err) {
		t.Errorf("a table on a full disk: %v", err)
	}
	if fs.ballast() == 0 {
		t.Error("a table got the space in reserve")
	}
	f, err := engine.Create(fs.PathJoin(dir, "000008.log"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, mib)); err != nil {
		t.Errorf("a write on a full disk with a ballast: %v", err)
	}
	if _, err := engine.Create(fs.PathJoin(dir, "000009.sst"), vfs.WriteCategoryUnspecified); !vfs.IsNoSpaceError(err) {
		t.Errorf("a table in what is left for the log: %v", err)
	}
	if s := w.State(); !s.Full || s.Reserved || fs.ballast() != 0 {
		t.Errorf("%+v", s)
	}
	run(t, w)
	poll.Until(t, patience, told.are(true), "full is told")
}

// A ballast that is being written goes away as soon as its space is needed.
func TestRelieveWhileTheBallastIsWritten(t *testing.T) {
	fs := newSmallFS(t, 1<<30)
	w := watch(t, Options{FS: fs})
	b, calls := &w.ballast, 0
	err := b.make(16*mib, func() bool { calls++; return calls < 5 })
	if !errors.Is(err, errGivenUp) || fs.ballast() != 0 {
		t.Errorf("%v, %d bytes are left", err, fs.ballast())
	}
	fs.others.Store(fs.total - 3*mib - mib/2)
	if err := b.make(16*mib, func() bool { return true }); !errors.Is(err, syscall.ENOSPC) || fs.ballast() != 0 {
		t.Errorf("%v, %d bytes are left", err, fs.ballast())
	}
}

func TestWithoutAnAnswer(t *testing.T) {
	told := &changes{}
	mem := vfs.NewMem() // has no usage
	if err := mem.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := watch(t, Options{FS: mem, Changed: told.add})
	run(t, w)
	poll.Until(t, patience, told.are(false), "it is told how things stand")
	if s := w.State(); s != (State{}) {
		t.Errorf("%+v", s)
	}

	fs := newSmallFS(t, 1<<30)
	fs.broken.Store(true)
	if _, err := Open(Options{FS: fs, Dir: dir}); !errors.Is(err, syscall.EIO) {
		t.Errorf("a volume that cannot be asked opens with %v", err)
	}
}

// What was known last holds while the system gives no answer.
func TestAnErrorChangesNothing(t *testing.T) {
	fs := newSmallFS(t, 1<<30)
	fs.others.Store(1000 * mib)
	w := watch(t, Options{FS: fs})
	fs.broken.Store(true)
	fs.others.Store(0)
	w.look()
	if s := w.State(); !s.Full {
		t.Errorf("%+v", s)
	}
	fs.broken.Store(false)
	w.look()
	if s := w.State(); s.Full || fs.ballast() == 0 {
		t.Errorf("%+v", s)
	}
}
