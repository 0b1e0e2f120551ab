package disk_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// crashImagesEnv is how many crash images TestCrashImages opens for each fsync.
const crashImagesEnv = "MERKLEKV_TEST_CRASH_IMAGES"

const (
	imagesInCI     = 40
	imagesWithRace = 8
)

func imagesWanted(t *testing.T) int {
	text := os.Getenv(crashImagesEnv)
	switch {
	case text == "" && raceEnabled:
		return imagesWithRace
	case text == "":
		return imagesInCI
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a number of images", crashImagesEnv, text)
	}
	return n
}

// TestCrashImages cuts the power at random moments of a workload, with 0 to 100 % of
// what was not synced on the disk nevertheless, and opens what is left: nothing that
// was acknowledged is missing as far as the fsync in force promises, what there is
// is a beginning of what each writer wrote, and the vector claims just that.
func TestCrashImages(t *testing.T) {
	checkLeaks(t)
	for name, fsync := range map[string]disk.Fsync{"always": disk.Always, "interval": disk.Interval, "never": disk.Never} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			const imagesOfLife = 20
			images := imagesWanted(t)
			if fsync != disk.Always {
				images /= 2 // much is torn there, and Pebble looks for flipped bits in it
			}
			for left := images; left > 0; left -= imagesOfLife {
				crashLife(t, r, fsync, min(left, imagesOfLife))
				if t.Failed() {
					return
				}
			}
		})
	}
}

// crashLife runs one journal under load and takes images of its files.
func crashLife(t *testing.T, r *rand.Rand, fsync disk.Fsync, images int) {
	files := vfs.NewCrashableMem()
	j := open(t, dirOf, disk.Options{FS: files, Fsync: fsync}.SettlingAt(1<<(4+r.IntN(10))))
	load := &workload{journal: j.Journal, stop: make(chan struct{})}
	for origin := range uint64(writers) {
		seed := r.Uint64()
		load.working.Go(func() { load.write(origin+1, rand.New(rand.NewPCG(seed, origin))) })
	}
	for range images {
		for range r.IntN(30) { // a while, in units of groups
			_ = j.Wait(t.Context(), j.Note(99, 0, 0))
		}
		percent := []int{0, 10, 50, 90, 100}[r.IntN(5)]
		acknowledged := load.acknowledged()
		image := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(r.Uint64(), 0))})
		if fsync != disk.Always && percent < 100 {
			acknowledged = [writers + 1]uint64{}
		}
		load.pause.Lock()
		checkImage(t, image, acknowledged)
		load.pause.Unlock()
		if t.Failed() {
			t.Errorf("an image with %d %% of what was not synced", percent)
			break
		}
	}
	close(load.stop)
	load.working.Wait()
	mustDo(t, j.Close())
}

const (
	writers     = 4
	keysOfCrash = 12
)

// workload is writers that each write a sequence of changes to keys of their own.
type workload struct {
	journal *disk.Journal
	stop    chan struct{}
	working sync.WaitGroup
	pause   sync.RWMutex // held while an image is looked at, lest the next one is large

	mu    sync.Mutex
	acked [writers + 1]uint64 // by origin, the last sequence number whose Wait returned
}

func (w *workload) acknowledged() [writers + 1]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

func (w *workload) write(origin uint64, r *rand.Rand) {
	for seq := uint64(1); ; seq++ {
		select {
		case <-w.stop:
			return
		default:
		}
		w.pause.RLock()
		ticket := appendStep(w.journal, origin, seq)
		w.pause.RUnlock()
		if r.IntN(3) > 0 {
			continue // a pipeline
		}
		if w.journal.Wait(context.Background(), ticket) != nil {
			return
		}
		w.mu.Lock()
		w.acked[origin] = seq
		w.mu.Unlock()
	}
}

// appendStep makes the change seq of an origin: what it is follows from both. Most
// are entries, some are noted only, or vouched for.
func appendStep(j *disk.Journal, origin, seq uint64) journal.Ticket {
	switch c := stepOf(origin, seq); {
	case seq%13 == 0:
		return j.Note(origin, seq, c.Entry.Version.HLC)
	case seq%17 == 0:
		return j.Vouch(journal.Mark{Origin: origin, Seq: seq, Stamp: c.Entry.Version.HLC})
	default:
		return j.Append(c)
	}
}

func stepOf(origin, seq uint64) *kv.Change {
	e := kv.Entry{
		Key:     fmt.Appendf(nil, "key%d-%d", origin, seq%keysOfCrash),
		Version: kv.Version{HLC: hlc.Timestamp(seq), Instance: origin},
	}
	switch {
	case seq%7 == 0:
		e.Flags = kv.Tombstone
	case seq%101 == 0:
		e.Value = valueOf(origin, seq, 100_000)
	default:
		e.Value = valueOf(origin, seq, int(seq*31%600))
	}
	return &kv.Change{Origin: origin, Seq: seq, Entry: e}
}

// entriesOf is what a journal holds of an origin after its first seqs changes.
func entriesOf(origin, seqs uint64) map[string]string {
	held := make(map[string]string)
	first := uint64(1)
	if seqs > 40*keysOfCrash {
		first = seqs - 40*keysOfCrash // long enough ago that each key was written since
	}
	for seq := first; seq <= seqs; seq++ {
		if seq%13 != 0 && seq%17 != 0 {
			e := &stepOf(origin, seq).Entry
			held[string(e.Key)+"/"] = textOf(e)
		}
	}
	return held
}

func checkImage(t *testing.T, image *vfs.MemFS, acknowledged [writers + 1]uint64) {
	t.Helper()
	j, err := disk.Open(dirOf, disk.Options{FS: image})
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer j.Close()
	got, err := contentOf(j)
	if err != nil {
		t.Errorf("load: %v", err)
		return
	}
	want := content{entries: make(map[string]string), marks: got.marks}
	for origin := uint64(1); origin <= writers; origin++ {
		seqs := got.marks[origin].Seq
		if seqs < acknowledged[origin] {
			t.Errorf("of origin %d, %d changes are there, and %d were acknowledged", origin, seqs, acknowledged[origin])
		}
		maps.Copy(want.entries, entriesOf(origin, seqs))
	}
	if diff := got.diff(want); diff != "" {
		t.Errorf("the entries are not those that the vector claims:\n%s", diff)
	}
}
