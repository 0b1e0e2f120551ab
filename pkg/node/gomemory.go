package node

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"merklekv/pkg/internal/cgroup"
)

// The Go runtime is told how much memory is its own, so that it collects garbage
// before the system ends the process: what the container may use, less a tenth and
// what the store has mapped beside the Go heap.
const (
	memoryEvery = 5 * time.Second // between two adjustments
	memoryNews  = 8               // a change by this fraction of the container's limit is logged
)

// goMemory keeps the Go runtime's memory limit.
type goMemory struct {
	container cgroup.Limit
	mapped    func() int64      // bytes that the store has beside the Go heap
	allowed   func() int64      // storage.memory_limit_mb in bytes
	needed    func() int64      // bytes below which the collector would run all the time
	set       func(int64) int64 // debug.SetMemoryLimit
	log       *slog.Logger

	limit  int64 // in force
	told   int64 // logged last
	judged int64 // limit of the store that was judged last, -1 for none
}

// share returns what the Go runtime may use of a container when so much is mapped
// beside it. It is at least what it needs: with less, collecting would take all the
// time there is and free nothing.
func share(container, mapped, needed int64) int64 {
	return max(container-container/10-mapped, needed)
}

// fits reports whether a store that clients fill to its limit leaves a container
// enough for the rest: the index takes about a third on top, and the journal's tables
// and connections some more.
func fits(container, limit int64) bool { return limit > 0 && limit <= fitting(container) }

const besideStore = 192 << 20

// fitting returns the greatest limit of a store that fits into a container.
func fitting(container int64) int64 { return max(0, container-container/10-besideStore) / 4 * 3 }

// adjust brings the limit up to date.
func (g *goMemory) adjust() {
	g.limit = share(g.container.Bytes, g.mapped(), g.needed())
	g.set(g.limit)
	if g.told == 0 || g.limit-g.told > g.container.Bytes/memoryNews || g.told-g.limit > g.container.Bytes/memoryNews {
		g.told = g.limit
		g.log.Info("memory for the Go runtime follows the container's limit", "go_bytes", g.limit,
			"container_bytes", g.container.Bytes, "mapped_bytes", g.mapped(), "limit_file", g.container.File)
	}
	g.judge(g.allowed())
}

// judge warns of a limit of the store that does not fit.
func (g *goMemory) judge(allowed int64) {
	if allowed != g.judged && !fits(g.container.Bytes, allowed) {
		g.log.Warn("storage.memory_limit_mb does not fit into the container's memory: the system may end this process before clients see \"Storage full\"; lower the key or give the container more",
			"memory_limit_mb", allowed>>20, "container_mb", g.container.Bytes>>20, "fits_mb", fitting(g.container.Bytes)>>20)
	}
	g.judged = allowed
}

// keepGoMemory is the layer that adjusts the limit. It does nothing where the
// operator has set GOMEMLIMIT, where there is no container's limit, or where the
// process is not this node's alone.
func (n *Node) keepGoMemory(ctx context.Context) error {
	g, ok := n.newGoMemory()
	if !ok {
		<-ctx.Done()
		return nil
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		g.adjust()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n *Node) newGoMemory() (*goMemory, bool) {
	if !n.ownsProcess {
		return nil, false
	}
	if limit := os.Getenv("GOMEMLIMIT"); limit != "" {
		n.logger.Info("memory for the Go runtime is as the environment says", "GOMEMLIMIT", limit)
		return nil, false
	}
	container, err := cgroup.MemoryLimit(os.DirFS("/"))
	if err != nil {
		n.logger.Warn("the container's memory limit is not known", "err", err)
		return nil, false
	}
	if container.Bytes == 0 {
		n.logger.Info("no container limits the memory")
		return nil, false
	}
	return &goMemory{
		container: container, judged: -1, log: n.logger, set: debug.SetMemoryLimit, needed: neededMemory,
		mapped:  func() int64 { return n.store.Stats().Mapped },
		allowed: func() int64 { return n.store.Stats().Limit },
	}, true
}

// neededMemory returns what the Go runtime needs to run well: a quarter more than
// what lives on its heap, and what it has for itself.
func neededMemory() int64 {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return int64(min(samples[i].Value.Uint64(), math.MaxInt64))
	}
	live := value(0)
	beside := value(1) - value(2) - value(3) - value(4) - value(5) // stacks, tables of the collector and the like
	return live + live/4 + max(0, beside)
}
