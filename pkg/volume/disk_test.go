package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"merklekv/pkg/hlc"
)

// The files that the first released format wrote can be read for ever.
func TestGoldenFiles(t *testing.T) {
	v := identity{format: 1, nodeID: "node-1", id: 0x0123456789abcdef, created: time.Date(2026, 11, 23, 2, 3, 4, 0, time.UTC)}
	for name, got := range map[string][]byte{
		identityName: v.encode(),
		clockName:    encodeBound(hlc.At(1_795_399_384_000) + 0xbeef),
	} {
		golden, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(golden) != string(got) {
			t.Errorf("%s is written as\n%q, want\n%q", name, got, golden)
		}
	}
	mem := vfs.NewMem()
	for _, name := range []string{identityName, clockName} {
		golden, _ := os.ReadFile("testdata/" + name) // read above
		fill(t, mem, "d", map[string]string{name: string(golden)})
	}
	o := mustOpen(t, mem, "d", "node-1")
	if o.identity != v || o.Bound() != hlc.At(1_795_399_384_000)+0xbeef {
		t.Errorf("read as %+v, bound %v", o.identity, o.Bound())
	}
	mustClose(t, o, 0)
}

// Whatever byte of whichever file is another one, or is missing, the volume is not
// opened, and it is said which file it was.
func TestEveryFlippedByteIsFound(t *testing.T) {
	mem := vfs.NewMem()
	v := mustOpen(t, mem, "d", "node-1")
	mustClose(t, v, hlc.At(1_795_399_384_000)+1)
	for _, name := range []string{identityName, clockName} {
		path := mem.PathJoin("d", name)
		whole, err := read(mem, path)
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, content []byte) {
			t.Helper()
			fill(t, mem, "d", map[string]string{name: string(content)})
			_, err := Open("d", "node-1", Options{FS: mem})
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of %s gave %v", what, name, err)
			}
			if _, err := Inspect(mem, "d"); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s of %s: Inspect gave %v", what, name, err)
			}
		}
		for i := range whole {
			for _, mask := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
				content := append([]byte(nil), whole...)
				content[i] ^= mask
				refused(fmt.Sprintf("byte %d ^ %d", i, mask), content)
			}
			refused(fmt.Sprintf("the first %d bytes", i), whole[:i])
		}
		refused("one byte more", append(append([]byte(nil), whole...), '\n'))
		refused("junk without end", append(append([]byte(nil), whole...), make([]byte, maxFile)...))
		fill(t, mem, "d", map[string]string{name: string(whole)})
	}
	mustClose(t, mustOpen(t, mem, "d", "node-1"), 0)
}

// A checksum that fits does not make a volume.json of what nobody writes.
func TestSealedNonsenseIsRefused(t *testing.T) {
	body := string(newIdentity("n1", time.Now()).encode())
	body = body[:len(body)-sealLen]
	for name, nonsense := range map[string]string{
		"nothing":       "",
		"no object":     "[\n",
		"another order": strings.Replace(body, "{\n", "{\n  \"more\": 1,\n", 1),
		"other spaces":  strings.Replace(body, ": 1", ":  1", 1),
		"format 0":      strings.Replace(body, ": 1", ": 0", 1),
		"a bad node_id": strings.Replace(body, "n1", "n 1", 1),
		"a bad time":    strings.Replace(body, "Z\"", "\"", 1),
	} {
		if nonsense == body {
			t.Fatalf("%s: is the same", name)
		}
		if v, err := decodeIdentity(append([]byte(nonsense), seal([]byte(nonsense))...), "f"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestReservedAlreadyCostsNothing(t *testing.T) {
	operations := 0
	counted := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(errorfs.Op) error { operations++; return nil }))
	v := mustOpen(t, counted, "d", "n1")
	for _, tc := range []struct {
		bound hlc.Timestamp
		costs bool
	}{{hlc.At(5), true}, {hlc.At(5), false}, {hlc.At(4), false}, {hlc.At(5) + 1, true}} {
		operations = 0
		if err := v.Reserve(tc.bound); err != nil || operations > 0 != tc.costs {
			t.Errorf("Reserve(%v): %v, %d operations", tc.bound, err, operations)
		}
	}
	mustClose(t, v, 0)
}

func FuzzDecodeIdentity(f *testing.F) {
	golden, err := os.ReadFile("testdata/" + identityName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, sealed := range [][]byte{data, append(append([]byte(nil), data...), seal(data)...)} {
			v, err := decodeIdentity(sealed, "f")
			if err == nil && string(v.encode()) != string(sealed) {
				t.Errorf("%q was read as %+v", sealed, v)
			}
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
				t.Errorf("untyped: %v", err)
			}
		}
	})
}

// crash returns what a power failure leaves: all that was synced, and any part of the
// rest.
func crash(fsys *vfs.MemFS, rng *rand.Rand) *vfs.MemFS {
	return fsys.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
}

// Before and after each operation on the disk the power fails, with any part of what
// was not synced on the disk. The next start works, with the identity that was told,
// and the bound is one that was reserved, not below what Reserve has returned for.
func TestPowerFailsAtAnyOperation(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewCrashableMem()
	var told uint64            // the volume id, once Open has returned
	var reserved hlc.Timestamp // what Reserve has returned for
	var asked hlc.Timestamp    // the greatest that was ever asked for
	images := 0
	look := func() {
		for range 4 {
			images++
			image := crash(mem, rng)
			v, err := Open("x/d", "n1", Options{FS: image})
			if err != nil {
				t.Fatalf("after a crash: %v\n%s", err, image)
			}
			if told != 0 && v.ID() != told || v.Bound() < reserved || v.Bound() > asked {
				t.Fatalf("volume %x with bound %v; told %x, reserved %v, asked %v", v.ID(), v.Bound(), told, reserved, asked)
			}
			mustClose(t, v, 0)
		}
	}
	watched := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			look()
		}
		return nil
	}))
	v := mustOpen(t, watched, "x/d", "n1")
	told = v.ID()
	look()
	for bound := hlc.At(1000); bound < hlc.At(6000); bound += hlc.At(1000) {
		asked = bound
		if err := v.Reserve(bound); err != nil {
			t.Fatal(err)
		}
		reserved = bound
		look()
	}
	reserved = hlc.At(4500) // Close lowers it
	mustClose(t, v, reserved)
	look()
	if images < 100 {
		t.Errorf("only %d images: the operations are not seen", images)
	}
}

// The n-th operation on the disk fails, for every n. What Open makes is whole or can be
// made anew; a bound that was not written is not taken for written.
func TestNthOperationFails(t *testing.T) {
	for failure, passes := range map[error]bool{syscall.EIO: false, syscall.ENOSPC: true, syscall.EMFILE: true} {
		failures, n := 0, 0
		for failed := true; failed; n++ {
			mem := vfs.NewCrashableMem()
			failed = failAt(t, mem, n, failure, passes)
			if failed {
				failures++
			}
			image := mem.CrashClone(vfs.CrashCloneCfg{})
			mustClose(t, mustOpen(t, image, "d", "n1"), 0)
		}
		if failures < 15 {
			t.Errorf("%v: only %d operations failed", failure, failures)
		}
	}
}

// failAt lets the n-th operation fail and reports whether there were so many. When the
// failure passes, the same can be reserved afterwards, else nothing.
func failAt(t *testing.T, mem *vfs.MemFS, n int, failure error, passes bool) (failed bool) {
	var calls []error
	broken := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if n--; n == -1 && op.Kind != errorfs.OpFileClose {
			failed = true
			return &fs.PathError{Op: "test", Path: op.Path, Err: failure}
		}
		return nil
	}))
	v, err := Open("d", "n1", Options{FS: broken, Failed: func(err error) { calls = append(calls, err) }})
	if err != nil {
		if !failed || !errors.Is(err, failure) {
			t.Fatalf("Open: %v", err)
		}
		return failed
	}
	before := failed
	err = v.Reserve(hlc.At(1000))
	switch {
	case err != nil && (!failed || before || !errors.Is(err, failure)):
		t.Fatalf("Reserve: %v", err)
	case err == nil:
		atLeast(t, mem, hlc.At(1000))
	case passes:
		if err := v.Reserve(hlc.At(1000)); err != nil || len(calls) > 0 {
			t.Fatalf("with room again: %v, Failed called with %v", err, calls)
		}
		atLeast(t, mem, hlc.At(1000))
	default:
		again := v.Reserve(hlc.At(2000))
		if !errors.Is(again, failure) || len(calls) != 1 || !errors.Is(calls[0], failure) {
			t.Fatalf("after a failed disk: %v, Failed called with %v", again, calls)
		}
	}
	if err := v.Close(hlc.At(900)); err != nil && !errors.Is(err, failure) {
		t.Fatalf("Close: %v", err)
	}
	return failed
}

// atLeast asserts that the bound survives a power failure.
func atLeast(t *testing.T, mem *vfs.MemFS, want hlc.Timestamp) {
	t.Helper()
	v := mustOpen(t, mem.CrashClone(vfs.CrashCloneCfg{}), "d", "n1")
	if v.Bound() < want {
		t.Fatalf("Reserve(%v) has returned, and the bound on disk is %v", want, v.Bound())
	}
	mustClose(t, v, 0)
}
