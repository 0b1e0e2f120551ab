package disk_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// TestSettle appends changes of few names and settles now and then: what is loaded
// is the last one of each name, in their order, whether it was settled or not,
// whether the journal was closed or is read beside it.
func TestSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := vfs.NewMem()
		o := disk.Options{FS: files}.SettlingAt(rapid.SampledFrom([]int{1, 100, 1000, 1 << 20}).Draw(t, "settled at"))
		want := make(map[string]string)
		lives := rapid.IntRange(1, 3).Draw(t, "lives")
		for seq := uint64(1); lives > 0; lives-- {
			j, err := disk.Open(dirOf, o)
			if err != nil {
				t.Fatal(err)
			}
			var last journal.Ticket
			for range rapid.IntRange(0, 60).Draw(t, "changes") {
				c := writeOf(1, seq, 9, 10)
				c.Entry.Key = []byte(rapid.SampledFrom([]string{"a", "ab", "a\x00", "a\x00b", "b", "a\xff"}).Draw(t, "key"))
				want[string(c.Entry.Key)] = textOf(&c.Entry)
				if last = j.Append(c); rapid.IntRange(0, 3).Draw(t, "wait") == 0 {
					if err := j.Wait(t.Context(), last); err != nil {
						t.Fatal(err)
					}
				}
				seq++
			}
			if err := j.Wait(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			checkOrder(t, j, want)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		r, err := disk.OpenReadOnly(dirOf, files)
		if err != nil {
			t.Fatal(err)
		}
		checkOrder(t, r, want)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// checkOrder checks that just these entries are loaded, in the order of names.
func checkOrder(t *rapid.T, j loader, want map[string]string) {
	var names []string
	err := j.Load(func(e *kv.Entry) error {
		names = append(names, string(e.Key))
		if got := textOf(e); got != want[string(e.Key)] {
			t.Errorf("%q is %s, want %s", e.Key, got, want[string(e.Key)])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(want) {
		t.Errorf("loaded %q, want %d names", names, len(want))
	}
	if !slices.IsSortedFunc(names, func(a, b string) int {
		return merkle.CompareNames([]byte(a), nil, []byte(b), nil)
	}) {
		t.Errorf("loaded in the order %q", names)
	}
}

// However fast entries are appended, what the settler is behind stays within bounds:
// the next start reads and sorts that in memory.
func TestTheSettlerIsNeverFarBehind(t *testing.T) {
	const settleAt, value = 4 << 10, 512
	j := open(t, t.TempDir(), disk.Options{Fsync: disk.Never}.SettlingAt(settleAt))
	most := int64(0)
	for i := range 2000 {
		ticket := j.Append(&kv.Change{Origin: 1, Seq: uint64(i + 1), Entry: kv.Entry{
			Key: fmt.Appendf(nil, "key%d", i%100), Value: make([]byte, value), Version: kv.Version{HLC: hlc.Timestamp(i + 1), Instance: 1},
		}})
		if err := j.Wait(t.Context(), ticket); err != nil {
			t.Fatal(err)
		}
		most = max(most, j.Backlog())
	}
	if bound := int64(8*settleAt + 4*value); most > bound {
		t.Errorf("%d bytes waited for the settler, at most %d may", most, bound)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
