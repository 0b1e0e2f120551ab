package main

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Events happen by their instants, and of one instant by their making.
func TestLoopKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type at struct {
			when   time.Duration
			number int
		}
		var l loop
		var want, got []at
		for i, d := range rapid.SliceOfN(rapid.IntRange(0, 20), 0, 100).Draw(t, "instants") {
			e := at{time.Duration(d), i}
			want = append(want, e)
			l.after(e.when, func() {
				if l.now != e.when {
					t.Fatalf("it is %v at %v", l.now, e.when)
				}
				got = append(got, e)
			})
		}
		slices.SortStableFunc(want, func(a, b at) int { return int(a.when - b.when) })
		l.runUntil(30, func() bool { return false })
		if !slices.Equal(got, want) || l.now != 30 {
			t.Fatalf("%v, want %v; now %v", got, want, l.now)
		}
	})
}

func TestMachine(t *testing.T) {
	l := &loop{now: 5 * time.Second}
	m := &machine{loop: l, skew: 700}
	m.freeze()
	l.now += 10 * time.Second
	if got, elapsed := m.read(); got != began+5700 || elapsed != 15*time.Second {
		t.Errorf("frozen: %d, %v", got-began, elapsed)
	}
	m.thaw()
	l.now += time.Second
	if got := m.wall(); got != began+6700 {
		t.Errorf("thawed: %d", got-began)
	}
	m.mend()
	if got := m.wall(); got != began+16_000 {
		t.Errorf("mended: %d", got-began)
	}
}

func TestLagPercentiles(t *testing.T) {
	var l lagCounts
	for i := range 100 {
		l.add(time.Duration(100-i) * time.Millisecond)
	}
	l.add(2 * longestLag * time.Millisecond)
	if p := l.percentile(50); p != 51*time.Millisecond {
		t.Errorf("p50 %v", p)
	}
	if p := l.percentile(100); p != longestLag*time.Millisecond || l.greatest != 2*longestLag*time.Millisecond {
		t.Errorf("p100 %v, greatest %v", p, l.greatest)
	}
}
