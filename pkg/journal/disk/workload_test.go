package disk_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// checkLeaks checks at the end of a test that no goroutine begun in it still runs.
func checkLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// writeOf makes the n-th change of an origin, to one of few keys, so that many are
// overwritten; every eleventh one is a delete. Its version says what it is.
func writeOf(origin, seq uint64, keys int, size int) *kv.Change {
	e := kv.Entry{
		Key:     fmt.Appendf(nil, "key%04d", (seq*7919+origin)%uint64(keys)),
		Version: kv.Version{HLC: hlc.Timestamp(seq), Instance: origin},
	}
	if seq%11 == 0 {
		e.Flags = kv.Tombstone
	} else {
		e.Value = valueOf(origin, seq, size)
	}
	return &kv.Change{Origin: origin, Seq: seq, Entry: e}
}

// valueOf makes bytes that do not compress, so that tables have many blocks.
func valueOf(origin, seq uint64, size int) []byte {
	r := rand.New(rand.NewPCG(origin, seq))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// content is what a journal holds, as text.
type content struct {
	entries map[string]string
	marks   map[uint64]journal.Mark
}

// loader is what a Journal and a Reader have in common.
type loader interface {
	Load(func(*kv.Entry) error) error
	Received() []journal.Mark
}

func contentOf(j loader) (content, error) {
	c := content{entries: make(map[string]string), marks: make(map[uint64]journal.Mark)}
	err := j.Load(func(e *kv.Entry) error {
		c.entries[string(e.Key)+"/"+string(e.Facet)] = textOf(e)
		return nil
	})
	for _, m := range j.Received() {
		c.marks[m.Origin] = m
	}
	return c, err
}

func textOf(e *kv.Entry) string { return fmt.Sprintf("%v %d %x", e.Version, e.Flags, e.Value) }

// diff describes how content differs from what is wanted, "" if it does not.
func (c content) diff(want content) string {
	var lines []string
	for name, value := range want.entries {
		if c.entries[name] != value {
			lines = append(lines, fmt.Sprintf("%s is %.60q, want %.60q", name, c.entries[name], value))
		}
	}
	for name := range c.entries {
		if _, ok := want.entries[name]; !ok {
			lines = append(lines, name+" was never written")
		}
	}
	for origin, m := range want.marks {
		if c.marks[origin] != m {
			lines = append(lines, fmt.Sprintf("received %v, want %v", c.marks[origin], m))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines[:min(len(lines), 5)], "\n")
}

// mustContent reads the journal in a directory.
func mustContent(t testing.TB, fsys vfs.FS, dir string) content {
	t.Helper()
	r, err := disk.OpenReadOnly(dir, fsys)
	if err != nil {
		t.Fatal(err)
	}
	c, err := contentOf(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}
