package disk_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
)

// BenchmarkAppend is what a node under load asks of its journal: 64 connections,
// each of which appends a pipeline of 16 writes to random keys and waits for it.
// cpu-ns/op is what an entry costs on all processors, later tables included.
func BenchmarkAppend(b *testing.B) {
	for _, bench := range []struct {
		name  string
		fsync disk.Fsync
		keys  int
	}{
		{"always/keys=100000", disk.Always, 100_000},
		{"always/keys=1000000", disk.Always, 1_000_000},
		{"interval/keys=100000", disk.Interval, 100_000},
	} {
		b.Run(bench.name, func(b *testing.B) {
			j := open(b, b.TempDir(), disk.Options{Fsync: bench.fsync})
			b.ResetTimer()
			before := processorTime(b)
			appendPipelines(b, j.Journal, bench.keys)
			b.StopTimer()
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

const (
	benchConns    = 64
	benchPipeline = 16
)

// appendPipelines appends b.N entries.
func appendPipelines(b *testing.B, j *disk.Journal, keys int) {
	var clock, begun atomic.Uint64
	var conns sync.WaitGroup
	for conn := range uint64(benchConns) {
		conns.Go(func() {
			rng := rand.New(rand.NewPCG(1, conn))
			c := kv.Change{Origin: 7, Entry: kv.Entry{Value: make([]byte, 64)}}
			for begun.Add(benchPipeline) <= uint64(b.N)+benchPipeline {
				ticket := j.Append(nextChange(&c, rng, keys, &clock))
				for range benchPipeline - 1 {
					ticket = j.Append(nextChange(&c, rng, keys, &clock))
				}
				if err := j.Wait(b.Context(), ticket); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	conns.Wait()
}

func nextChange(c *kv.Change, rng *rand.Rand, keys int, clock *atomic.Uint64) *kv.Change {
	c.Entry.Key = fmt.Appendf(c.Entry.Key[:0], "key:%012d", rng.IntN(keys))
	c.Seq = clock.Add(1)
	c.Entry.Version = kv.Version{HLC: hlc.Timestamp(1<<40 + c.Seq), Instance: 7}
	return c
}

// processorTime returns what this process has used of all processors.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
