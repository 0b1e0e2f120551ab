package store

import (
	"fmt"
	"testing"
)

// benchKeys returns n keys, a power of two, in an order that memory does not have.
func benchKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key:%012d", i*0x9e3779b1&(n-1))
	}
	return keys
}

func BenchmarkSet(b *testing.B) {
	s, _ := newStore(b, Options{})
	keys, value := benchKeys(1<<17), make([]byte, 64)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, _ = s.Set(keys[i%len(keys)], value)
	}
}

// BenchmarkSetBelowABound is BenchmarkSet with a ceiling over the clock.
func BenchmarkSetBelowABound(b *testing.B) {
	s, _ := newStore(b, Options{Bound: &memoryBound{}})
	keys, value := benchKeys(1<<17), make([]byte, 64)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, _ = s.Set(keys[i%len(keys)], value)
	}
}

func BenchmarkGet(b *testing.B) {
	s, _ := newStore(b, Options{})
	keys, value := benchKeys(1<<17), make([]byte, 64)
	for _, k := range keys {
		_, _ = s.Set(k, value)
	}
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		dst, _ = s.Get(dst[:0], keys[i%len(keys)])
	}
}

func BenchmarkApply(b *testing.B) {
	s, _ := newStore(b, Options{})
	keys := benchKeys(1 << 17)
	c := remote(7, 0, testStart, "", "0123456789012345678901234567890123456789012345678901234567890123")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Entry.Key = keys[i%len(keys)]
		c.Entry.Version.HLC++
		c.Seq++
		s.Apply(c)
	}
}
