package disk_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"merklekv/pkg/journal/disk"
)

// TestFsyncChangesBetweenLives cuts the power in lives with different fsyncs, while
// the journal is opened or after it was written to. It is never taken for damaged,
// and nothing is lost that was on the disk.
func TestFsyncChangesBetweenLives(t *testing.T) {
	checkLeaks(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounds := 40
	if raceEnabled {
		rounds = 6
	}
	for round := range rounds {
		l := lives{files: vfs.NewCrashableMem(), r: rand.New(rand.NewPCG(seed, uint64(round)))}
		for range 6 {
			if l.live(t); t.Failed() {
				t.Fatalf("round %d: %s", round, l.story)
			}
		}
	}
}

// lives is a journal that is opened, written to, and cut off by a power failure.
type lives struct {
	files *vfs.MemFS
	r     *rand.Rand
	kept  uint64 // changes that were on the disk when the power failed
	story string
}

func (l *lives) live(t *testing.T) {
	fsync := []disk.Fsync{disk.Always, disk.Interval, disk.Never}[l.r.IntN(3)]
	moment := &anyMoment{files: l.files, crash: l.crash(), r: rand.New(rand.NewPCG(l.r.Uint64(), 0))}
	l.story += fmt.Sprintf("; fsync %d", fsync)
	j, err := disk.Open(dirOf, disk.Options{FS: errorfs.Wrap(l.files, moment), Fsync: fsync})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { mustDo(t, j.Close()) }()
	whileOpening := moment.end()
	got, err := contentOf(j)
	if err != nil {
		t.Error(err)
		return
	}
	seq := got.marks[1].Seq
	l.story += fmt.Sprintf(", found %d", seq)
	if diff := got.diff(content{entries: entriesOf(1, seq)}); diff != "" || seq < l.kept {
		t.Errorf("%d changes are there, %d were on the disk: %s", seq, l.kept, diff)
		return
	}
	l.kept = seq // what was found after a power failure is on the disk
	if l.r.IntN(2) == 0 {
		l.files, l.story = whileOpening, l.story+", cut off while it was opened"
		return
	}
	for range 1 + l.r.IntN(300) {
		seq++
		ticket := appendStep(j, 1, seq)
		if l.r.IntN(4) > 0 {
			continue
		}
		mustDo(t, j.Wait(t.Context(), ticket))
		if fsync == disk.Always {
			l.kept = seq
		}
	}
	l.files, l.story = l.files.CrashClone(l.crash()), l.story+fmt.Sprintf(", cut off after %d", seq)
}

// crash is how much of what was not synced is on the disk after a power failure.
func (l *lives) crash() vfs.CrashCloneCfg {
	percent := []int{0, 10, 50, 90}[l.r.IntN(4)]
	return vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(l.r.Uint64(), 0))}
}

// anyMoment takes an image of files before one of the operations on them, each of
// which is as likely as the others.
type anyMoment struct {
	files *vfs.MemFS
	crash vfs.CrashCloneCfg

	mu    sync.Mutex
	r     *rand.Rand
	ops   int
	image *vfs.MemFS
	ended bool
}

func (*anyMoment) String() string { return "any moment" }

// MaybeError is part of errorfs.Injector.
func (m *anyMoment) MaybeError(errorfs.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ops++; !m.ended && m.r.IntN(m.ops) == 0 {
		m.image = m.files.CrashClone(m.crash)
	}
	return nil
}

// end returns the image; no other is taken.
func (m *anyMoment) end() *vfs.MemFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	return m.image
}
