package antientropy

import (
	"fmt"
	"runtime"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// feed is a source of changes made up beforehand.
type feed struct {
	log  []kv.Logged
	pos  uint64
	dump func(func(*kv.Entry) bool)
}

func (f *feed) Read(most int, fn func(*kv.Logged)) int {
	n := min(most, len(f.log)-int(f.pos))
	for i := range n {
		fn(&f.log[int(f.pos)+i])
	}
	f.pos += uint64(n)
	return n
}

func (f *feed) Pos() uint64       { return f.pos }
func (f *feed) LogHead() uint64   { return uint64(len(f.log)) }
func (f *feed) Seal(int64) uint64 { return uint64(len(f.log)) }

func (f *feed) Dump(fn func(*kv.Entry) bool) {
	if f.dump != nil {
		f.dump(fn)
	}
}

func benchEntry(i, n int, epoch int64) kv.Entry {
	return kv.Entry{
		Key: fmt.Appendf(nil, "user:%08d", (i*7919)%n), Value: make([]byte, 64),
		Version: kv.Version{HLC: hlc.At(epoch*hlc.MillisPerEpoch) + hlc.Timestamp(i), Instance: 1},
	}
}

func dumpOf(n int) func(func(*kv.Entry) bool) {
	return func(fn func(*kv.Entry) bool) {
		for i := range n {
			if e := benchEntry(i, n, testEpoch-10); !fn(&e) {
				return
			}
		}
	}
}

// What a change costs the index in the background, with 100,000 of them in an
// epoch: take it in, hash it, sort it, put it into the set.
func BenchmarkBackgroundUpdate(b *testing.B) {
	const n, batch = 1_000_000, 100_000
	f := &feed{dump: dumpOf(n)}
	x := NewIndex(f, 3600, 0)
	x.Advance(testEpoch * hlc.MillisPerEpoch)
	epoch := testEpoch
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		b.StopTimer()
		epoch++
		f.log, f.pos = f.log[:0], 0
		for i := range min(batch, b.N-done) {
			f.log = append(f.log, kv.Logged{Change: kv.Change{Origin: 1, Seq: 1, Entry: benchEntry(i+done, n, epoch)}})
		}
		b.StartTimer()
		for range 10 {
			x.Drain()
		}
		x.Advance((epoch + 1) * hlc.MillisPerEpoch)
	}
}

// The index of a replica that holds a million keys, from nothing.
func BenchmarkColdBuild(b *testing.B) {
	const n = 1_000_000
	entries := make([]kv.Entry, n)
	for i := range entries {
		entries[i] = benchEntry(i, n, testEpoch-10)
	}
	f := &feed{dump: func(fn func(*kv.Entry) bool) {
		for i := range entries {
			fn(&entries[i])
		}
	}}
	b.ResetTimer()
	for range b.N {
		x := NewIndex(f, 3600, 0)
		x.Advance(testEpoch * hlc.MillisPerEpoch)
	}
}

// The exact root after one write, as HASH asks for it.
func BenchmarkRootAfterOneWrite(b *testing.B) {
	const n = 1_000_000
	f := &feed{dump: dumpOf(n)}
	x := NewIndex(f, 3600, 0)
	x.Advance(testEpoch * hlc.MillisPerEpoch)
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		f.log, f.pos = append(f.log[:0], kv.Logged{Change: kv.Change{Origin: 1, Seq: 1, Entry: benchEntry(i, n, testEpoch+int64(i))}}), 0
		b.StartTimer()
		x.Advance((testEpoch + int64(i) + 1) * hlc.MillisPerEpoch)
		x.Roots()
	}
}

// The index takes at most 32 bytes a key, when nothing has changed lately.
func TestIndexMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("a million keys")
	}
	const n = 1_000_000
	used := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	x := NewIndex(&feed{dump: dumpOf(n)}, 3600, 0)
	x.Advance(testEpoch * hlc.MillisPerEpoch)
	perKey := float64(used()-before) / n
	t.Logf("%.1f bytes a key", perKey)
	if perKey > 32 {
		t.Errorf("the index takes %.1f bytes a key, at most 32 are wanted", perKey)
	}
	if x.Roots()[0].Count != n {
		t.Fatalf("%d keys", x.Roots()[0].Count)
	}
}
