package diskspace

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMarks(t *testing.T) {
	for _, c := range []struct{ total, low, clear, ballast uint64 }{
		{8 * mib, 16 * mib, 24 * mib, mib / 2}, // always full
		{64 * mib, 16 * mib, 24 * mib, 4 * mib},
		{96 * mib, 24 * mib, 36 * mib, 6 * mib},
		{256 * mib, 64 * mib, 96 * mib, 16 * mib},
		{1024 * mib, 256 * mib, 320 * mib, 16 * mib},
		{2048 * mib, 512 * mib, 576 * mib, 16 * mib},
		{1 << 50, 512 * mib, 576 * mib, 16 * mib},
	} {
		if got, want := MarksOf(c.total), (Marks{c.low, c.clear, c.ballast}); got != want {
			t.Errorf("a volume of %d MiB has %+v, want %+v", c.total/mib, got, want)
		}
	}
	m := MarksOf(1 << 40)
	if m.nextLook(2*m.Low) != 250*time.Millisecond || m.nextLook(2*m.Low-1) != 50*time.Millisecond {
		t.Error("looks are not closer together near the mark")
	}
}

func TestBuffersFitIntoTheReserve(t *testing.T) {
	for total, want := range map[uint64]uint64{0: 32 * mib, 96 * mib: 3 * mib / 2, 1 << 30: 16 * mib, 1 << 40: 32 * mib} {
		if got := Buffers(total, 32*mib); got != want {
			t.Errorf("of a volume of %d MiB %d bytes, want %d", total/mib, got, want)
		}
	}
}

func TestGuard(t *testing.T) {
	const total = 1024 * mib // Low 256, Clear 320, Ballast 16
	var g Guard
	for i, step := range []struct {
		free    uint64
		ballast bool
		full    bool
		order   Order
	}{
		{free: 1000 * mib, order: Make},
		{free: 984 * mib, ballast: true},
		{free: 256 * mib, ballast: true},
		{free: 256*mib - 1, ballast: true, full: true},
		{free: 320 * mib, ballast: true, full: true},
		{free: 320*mib + 1, ballast: true},
		{free: 64 * mib, ballast: true, full: true},
		{free: 64*mib - 1, ballast: true, full: true, order: Remove},
		{free: 80*mib - 1, full: true},
		{free: 0, full: true},
		{free: 320 * mib, full: true},
		{free: 336 * mib},
		{free: 336*mib + 1, order: Make},
	} {
		got := g.Look(Space{Free: step.free, Total: total}, step.ballast)
		if want := (Decision{step.full, step.order}); got != want {
			t.Errorf("step %d: %+v, want %+v", i, got, want)
		}
	}
	g.Exhausted()
	if d := g.Look(Space{Free: 300 * mib, Total: total}, true); !d.Full {
		t.Error("a volume on which a write found no space is not full")
	}
	if d := g.Look(Space{}, true); d != (Decision{}) {
		t.Errorf("where nothing is known: %+v", d)
	}
}

// Below Low a volume is full, above Clear it is not, between them it stays what it
// was; and what is done with the ballast never changes that, nor is it undone at the
// next look.
func TestGuardProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Uint64Range(1, 4<<30).Draw(t, "total")
		m := MarksOf(total)
		var g Guard
		var ballast, was bool
		for range rapid.IntRange(1, 20).Draw(t, "looks") {
			free := rapid.Uint64Range(0, total).Draw(t, "free")
			d := g.Look(Space{free, total}, ballast)
			want := free < m.Low || was && free <= m.Clear
			if d.Full != want {
				t.Fatalf("%d of %d free, full before: %v; now %+v", free, total, was, d)
			}
			was = d.Full
			switch d.Ballast {
			case Remove:
				free, ballast = free+m.Ballast, false
			case Make:
				free, ballast = free-m.Ballast, true
			}
			if again := g.Look(Space{free, total}, ballast); again != (Decision{Full: d.Full}) {
				t.Fatalf("after order %d at a total of %d: %+v", d.Ballast, total, again)
			}
		}
	})
}
