package replication

import (
	"fmt"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
)

// BenchmarkThreeNodes writes to three nodes in turn, as fast as they take it,
// until all have everything.
func BenchmarkThreeNodes(b *testing.B) {
	b.Run("qos 0", func(b *testing.B) { benchmarkThreeNodes(b, false) })
	b.Run("qos 1", func(b *testing.B) { benchmarkThreeNodes(b, true) })
}

func benchmarkThreeNodes(b *testing.B, qos1 bool) {
	broker := startBroker(b)
	nodes := startThreeLike(b, nodeConfig{brokers: []string{broker.addr}, qos1: qos1})
	waitGapless(b, nodes...)
	b.ResetTimer()
	value := make([]byte, 64)
	total := 0
	for b.Loop() {
		nodes[total%3].rep.set(fmt.Sprintf("user:%010d", total%100_000), value)
		total++
	}
	poll.Until(b, time.Minute, func() bool {
		for _, n := range nodes {
			held := uint64(0)
			for _, it := range n.repl.Status().Vector {
				held += it.Seq
			}
			if held != uint64(total) {
				return false
			}
		}
		return true
	}, "all to have everything")
	for _, n := range nodes {
		b.ReportMetric(valueOf(n.repl.met.gaps), "gaps-"+n.repl.opts.NodeID)
	}
}
