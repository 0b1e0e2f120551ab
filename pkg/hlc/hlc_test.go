package hlc

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimestampParts(t *testing.T) {
	ts := At(1_700_000_000_123) + 7
	if ts.Millis() != 1_700_000_000_123 || ts.Counter() != 7 || ts.Epoch() != 1_700_000_000 {
		t.Errorf("%v has parts %d, %d, %d", ts, ts.Millis(), ts.Counter(), ts.Epoch())
	}
	if got, want := ts.String(), "2023-11-14T22:13:20.123Z+7"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if full := At(5) + 0xffff; (full+1).Millis() != 6 || (full+1).Counter() != 0 {
		t.Errorf("the counter does not carry: %v", full+1)
	}
}

// Whatever the physical clock does and whatever is observed, stamps increase
// and exceed all that was observed before.
func TestClockOnlyGoesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		physical := int64(1_000_000)
		c := NewClock(func() int64 { return physical }, 60_000)
		var greatest Timestamp
		t.Repeat(map[string]func(*rapid.T){
			"jump": func(t *rapid.T) { physical += rapid.Int64Range(-600_000, 600_000).Draw(t, "ms") },
			"now": func(t *rapid.T) {
				ts := c.Now()
				if ts <= greatest {
					t.Fatalf("issued %v after %v", ts, greatest)
				}
				greatest = ts
			},
			"read": func(t *rapid.T) {
				ts := c.Read()
				if ts < greatest || ts < At(physical) {
					t.Fatalf("read %v after %v, with physical %d", ts, greatest, physical)
				}
				greatest = ts
			},
			"issue": func(t *rapid.T) {
				ts, ahead := c.Issue(c.Physical())
				switch {
				case ahead > 0 && (ts != 0 || c.Ahead() == 0 && ahead != 60_001):
					t.Fatalf("refused with %v, %d ms ahead, Ahead() = %d", ts, ahead, c.Ahead())
				case ahead == 0 && ts <= greatest:
					t.Fatalf("issued %v after %v", ts, greatest)
				case ahead == 0:
					greatest = ts
				}
			},
			"observe": func(t *rapid.T) {
				ts := At(max(0, physical+rapid.Int64Range(-100_000, 100_000).Draw(t, "offset")))
				due, ok := c.Observe(ts)
				if inReach := ts.Millis() <= physical+60_000; ok != (inReach || ts <= greatest) {
					t.Fatalf("Observe(%v) with physical %d = %v", ts, physical, ok)
				}
				if ok {
					greatest = max(greatest, ts)
				} else if due != ts.Millis()-60_000 {
					t.Fatalf("due at %d, want %d", due, ts.Millis()-60_000)
				}
			},
			"": func(t *rapid.T) {
				if c.Last() != greatest {
					t.Fatalf("Last = %v, want %v", c.Last(), greatest)
				}
			},
		})
	})
}

func TestIssueRefusesToRunAhead(t *testing.T) {
	physical := int64(1_000_000)
	c := NewClock(func() int64 { return physical }, 60_000)
	c.Raise(At(physical + 60_000))
	if ts, ahead := c.Issue(c.Physical()); ahead != 0 || ts != At(physical+60_000)+1 {
		t.Fatalf("at the limit: %v, %d", ts, ahead)
	}
	physical--
	if _, ahead := c.Issue(c.Physical()); ahead != 60_001 {
		t.Fatalf("a millisecond beyond the limit: ahead by %d", ahead)
	}
	physical++
	if ts, ahead := c.Issue(c.Physical()); ahead != 0 || ts != At(physical+60_000)+2 {
		t.Fatalf("a refused stamp was spent: %v, %d", ts, ahead)
	}
}

func TestMaxDriftCanChange(t *testing.T) {
	const physical = 1_000_000
	c := NewClock(func() int64 { return physical }, 1000)
	if due, ok := c.Observe(At(physical + 5000)); ok || due != physical+4000 {
		t.Fatalf("beyond the limit: %d, %v", due, ok)
	}
	c.SetMaxDrift(5000)
	if _, ok := c.Observe(At(physical + 5000)); !ok || c.MaxDrift() != 5000 || c.Ahead() != 0 {
		t.Fatalf("within the new limit: %v, ahead by %d", ok, c.Ahead())
	}
	c.SetMaxDrift(1000)
	if _, ahead := c.Issue(physical); ahead != 5000 || c.Ahead() != 5000 {
		t.Fatalf("ahead of the limit that came later by %d, %d", ahead, c.Ahead())
	}
}

// machine is the clock of a machine that a test moves.
type machine struct {
	wall    int64
	elapsed time.Duration
}

func (m *machine) read() (int64, time.Duration) { return m.wall, m.elapsed }

func (m *machine) pass(d time.Duration) {
	m.wall += d.Milliseconds()
	m.elapsed += d
}

func TestMedianClock(t *testing.T) {
	own := &machine{wall: 1_000_000_000}
	m := NewMedianClock(own.read)
	expect := func(what string, offset int64) {
		t.Helper()
		if got := m.Millis() - own.wall; got != offset {
			t.Errorf("%s: offset %d, want %d", what, got, offset)
		}
	}
	expect("alone", 0)
	m.Report("b", own.wall+5000)
	expect("of two the lower", 0)
	m.Report("b", own.wall-5000)
	expect("of two the lower", -5000)
	m.Report("c", own.wall-100)
	expect("of three the middle", -100)
	m.Report("c", own.wall+3_600_000)
	expect("one an hour fast", 0)
	m.Report("b", own.wall-5000) // b and c were heard now
	own.pass(SampleAge)
	expect("samples at the age limit", 0)
	m.Report("c", own.wall-200)
	own.pass(time.Second)
	expect("b has aged out", -200)
	own.pass(SampleAge)
	expect("all have aged out", 0)
}

func TestMedianClockOutlastsAJumpOfItsOwn(t *testing.T) {
	own := &machine{wall: 1_000_000_000}
	m := NewMedianClock(own.read)
	m.Report("b", own.wall+10)
	m.Report("c", own.wall-10)
	for _, jump := range []int64{+3_600_000, -7_200_000} {
		sane := own.wall
		own.wall += jump
		if got := m.Millis() - sane; got < -10 || got > 10 {
			t.Errorf("a jump of %d ms moved the clock by %d ms, with two sane peers", jump, got)
		}
		own.wall = sane
	}
}

// Three clocks that were wrong together and are set right are right again: what
// they tell each other is their own reading.
func TestMedianClocksFollowWhenAllAreSetRight(t *testing.T) {
	const wrong = -240_000
	var own [3]machine
	var clocks [3]*MedianClock
	for i := range own {
		own[i] = machine{wall: 1_700_000_000_000 + wrong}
		clocks[i] = NewMedianClock(own[i].read)
	}
	swap := func() {
		for i := range clocks {
			for j := range clocks {
				if i != j {
					clocks[i].Report(string(rune('a'+j)), clocks[j].Wall())
				}
			}
		}
	}
	swap()
	for i := range own {
		own[i].wall -= wrong
	}
	swap()
	for i := range clocks {
		if got := clocks[i].Millis(); got != own[i].wall {
			t.Errorf("clock %d is off by %d ms", i, got-own[i].wall)
		}
	}
}

func TestMedianClockAndAPeerThatIsFarOff(t *testing.T) {
	own := &machine{wall: 1_700_000_000_000}
	m := NewMedianClock(own.read)
	for _, bad := range []int64{-1_000_000, 0, 1, maxMillis + 1} {
		m.Report("b", bad)
		if got := m.Millis(); got != own.wall {
			t.Errorf("a single peer that reads %d moved the clock to %d", bad, got)
		}
	}
}

// The clock reads as the lower median of all clocks, whatever those are.
func TestMedianClockIsTheLowerMedian(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own := &machine{wall: 1_700_000_000_000}
		m := NewMedianClock(own.read)
		offsets := rapid.SliceOfN(rapid.Int64Range(-60_000, 60_000), 0, 6).Draw(t, "offsets")
		for i, o := range offsets {
			m.Report(string(rune('a'+i)), own.wall+o)
		}
		jump := rapid.Int64Range(-100_000, 100_000).Draw(t, "jump")
		sane := own.wall
		own.wall += jump
		all := append(slices.Clone(offsets), jump)
		slices.Sort(all)
		if got, want := m.Millis()-sane, all[(len(all)-1)/2]; got != want {
			t.Fatalf("offset %d, want %d of %v", got, want, all)
		}
	})
}
