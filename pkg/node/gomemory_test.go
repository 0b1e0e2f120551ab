package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"merklekv/pkg/internal/cgroup"
)

func TestShareOfTheGoRuntime(t *testing.T) {
	const gib = int64(1) << 30
	for name, c := range map[string]struct{ container, mapped, needed, want int64 }{
		"nothing mapped":           {gib, 0, 0, gib - gib/10},
		"half of it mapped":        {gib, gib / 2, 0, gib - gib/10 - gib/2},
		"the collector needs more": {gib, gib - gib/8, gib / 4, gib / 4},
		"all of it mapped":         {gib, 2 * gib, 1, 1},
	} {
		if got := share(c.container, c.mapped, c.needed); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestWhatFitsIntoAContainer(t *testing.T) {
	for _, c := range []struct {
		container, limit int64
		want             bool
	}{
		{2048, 1024, true}, {1024, 1024, false}, {1024, 512, true}, {512, 512, false}, {128, 1, false}, {4096, 0, false},
	} {
		if got := fits(c.container<<20, c.limit<<20); got != c.want {
			t.Errorf("%d MiB in a container of %d: %v; %d fit", c.limit, c.container, got, fitting(c.container<<20)>>20)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		container := rapid.Int64Range(0, 1<<45).Draw(t, "container")
		if most := fitting(container); most < 0 || most > container || most > 0 && (!fits(container, most) || fits(container, most+1)) {
			t.Fatalf("of %d bytes %d fit", container, most)
		}
	})
}

// The limit follows what is mapped; only news are logged.
func TestGoMemoryFollowsTheStore(t *testing.T) {
	const gib = int64(1) << 30
	var out bytes.Buffer
	var mapped, allowed, set int64 = 0, gib / 2, 0
	g := &goMemory{
		container: cgroup.Limit{Bytes: gib, File: "/sys/fs/cgroup/memory.max"}, log: slog.New(slog.NewTextHandler(&out, nil)),
		mapped: func() int64 { return mapped }, allowed: func() int64 { return allowed },
		judged: -1, needed: func() int64 { return gib / 100 }, set: func(n int64) int64 { old := set; set = n; return old },
	}
	for i, step := range []struct {
		mapped, allowed int64
		lines           int
	}{
		{0, gib / 2, 1}, {gib / 16, gib / 2, 1}, {gib / 4, gib / 2, 2}, {gib / 4, gib, 3}, {gib / 4, gib, 3},
		{gib / 4, gib / 2, 3}, {0, gib / 2, 4}, {gib, gib, 6},
	} {
		mapped, allowed = step.mapped, step.allowed
		g.adjust()
		if want := share(gib, mapped, gib/100); set != want || g.limit != want {
			t.Errorf("step %d: the limit is %d, want %d", i, set, want)
		}
		if got := strings.Count(out.String(), "\n"); got != step.lines {
			t.Errorf("step %d: %d lines logged, want %d:\n%s", i, got, step.lines, out.String())
		}
	}
	if got := strings.Count(out.String(), "level=WARN"); got != 2 || !strings.Contains(out.String(), "fits_mb=547") {
		t.Errorf("%d warnings:\n%s", got, out.String())
	}
}

// The environment, and a process that is not the node's alone, come first.
func TestGoMemoryIsLeftAlone(t *testing.T) {
	n := &Node{logger: slog.New(slog.DiscardHandler)}
	if _, ok := n.newGoMemory(); ok {
		t.Error("a node in a process of others sets its memory limit")
	}
	n.ownsProcess = true
	t.Setenv("GOMEMLIMIT", "1GiB")
	if _, ok := n.newGoMemory(); ok {
		t.Error("GOMEMLIMIT is overridden")
	}
}

func TestNeededMemory(t *testing.T) {
	if n := neededMemory(); n < 1<<18 || n > 1<<34 {
		t.Errorf("this test needs %d bytes", n)
	}
}
