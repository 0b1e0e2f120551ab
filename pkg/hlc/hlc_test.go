package hlc

import (
	"errors"
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

// Whatever the physical clock does and whatever is observed, stamps increase, exceed
// all that was observed before, and stay below the ceiling.
func TestClockOnlyGoesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &clockModel{physical: 1_000_000}
		m.clock = NewClock(func() int64 { return m.physical }, 60_000)
		t.Repeat(map[string]func(*rapid.T){
			"jump": func(t *rapid.T) { m.physical += rapid.Int64Range(-600_000, 600_000).Draw(t, "ms") },
			"read": func(t *rapid.T) {
				ts := m.clock.Read()
				if ts < m.greatest || ts < At(m.physical) {
					t.Fatalf("read %v after %v, with physical %d", ts, m.greatest, m.physical)
				}
				m.greatest = ts
			},
			"issue":   m.issue,
			"observe": m.observe,
			"ceiling": func(t *rapid.T) {
				to := At(m.physical + rapid.Int64Range(-5000, 100_000).Draw(t, "above"))
				m.clock.RaiseCeiling(to)
				m.ceiling = max(m.ceiling, to)
			},
			"": func(t *rapid.T) {
				if m.clock.Last() != m.greatest || m.clock.Ceiling() != m.ceiling {
					t.Fatalf("Last = %v, want %v; Ceiling = %v, want %v", m.clock.Last(), m.greatest, m.clock.Ceiling(), m.ceiling)
				}
			},
		})
	})
}

// clockModel is what a Clock should be.
type clockModel struct {
	clock    *Clock
	physical int64
	greatest Timestamp // issued, observed or read
	ceiling  Timestamp // 0: none
}

func (m *clockModel) issue(t *rapid.T) {
	n := rapid.SampledFrom([]int{1, 1, 2, 70_000}).Draw(t, "n")
	first := max(At(m.physical), m.greatest+1)
	end := first + Timestamp(n-1)
	ts, err := m.clock.Issue(m.clock.Physical(), n)
	var drift *DriftError
	switch ahead := end.Millis() - m.physical; {
	case ahead > 60_000:
		if !errors.As(err, &drift) || drift.Ahead != ahead || ts != 0 {
			t.Fatalf("%d ms ahead: %v, %v", ahead, ts, err)
		}
	case m.ceiling != 0 && end > m.ceiling:
		if !errors.Is(err, ErrCeiling) || ts != 0 {
			t.Fatalf("%v under the ceiling %v: %v, %v", end, m.ceiling, ts, err)
		}
	case err != nil || ts != first:
		t.Fatalf("issued %v, %v, want %v", ts, err, first)
	default:
		m.greatest = end
	}
}

func (m *clockModel) observe(t *rapid.T) {
	ts := At(max(0, m.physical+rapid.Int64Range(-100_000, 100_000).Draw(t, "offset")))
	wouldBeDue, acceptable := m.clock.Acceptable(ts)
	due, ok := m.clock.Observe(ts)
	if inReach := ts.Millis() <= m.physical+60_000; ok != (inReach || ts <= m.greatest) || ok != acceptable || due != wouldBeDue {
		t.Fatalf("Observe(%v) with physical %d = %v, Acceptable %v", ts, m.physical, ok, acceptable)
	}
	if ok {
		m.greatest = max(m.greatest, ts)
	} else if due != ts.Millis()-60_000 {
		t.Fatalf("due at %d, want %d", due, ts.Millis()-60_000)
	}
}

// ahead returns by how far the clock refuses to issue, 0 when it does not.
func ahead(t *testing.T, c *Clock, millis int64) int64 {
	t.Helper()
	var drift *DriftError
	_, err := c.Issue(millis, 1)
	if err != nil && !errors.As(err, &drift) {
		t.Fatal(err)
	}
	if err == nil {
		return 0
	}
	return drift.Ahead
}

func TestIssueRefusesToRunAhead(t *testing.T) {
	physical := int64(1_000_000)
	c := NewClock(func() int64 { return physical }, 60_000)
	c.Raise(At(physical + 60_000))
	if ts, err := c.Issue(c.Physical(), 1); err != nil || ts != At(physical+60_000)+1 {
		t.Fatalf("at the limit: %v, %v", ts, err)
	}
	if got := ahead(t, c, physical-1); got != 60_001 {
		t.Fatalf("a millisecond beyond the limit: ahead by %d", got)
	}
	if ts, err := c.Issue(c.Physical(), 1); err != nil || ts != At(physical+60_000)+2 {
		t.Fatalf("a refused stamp was spent: %v, %v", ts, err)
	}
}

func TestStampsOfOneCallFollowEachOther(t *testing.T) {
	c := NewClock(func() int64 { return 1000 }, 60_000)
	c.RaiseCeiling(At(1000) + 4)
	for _, tc := range []struct {
		n    int
		want Timestamp
		err  error
	}{{2, At(1000), nil}, {4, 0, ErrCeiling}, {3, At(1000) + 2, nil}, {1, 0, ErrCeiling}} {
		if ts, err := c.Issue(1000, tc.n); ts != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%d stamps: %v, %v, want %v, %v", tc.n, ts, err, tc.want, tc.err)
		}
	}
	c.RaiseCeiling(At(1000))
	if got := c.Ceiling(); got != At(1000)+4 {
		t.Errorf("the ceiling went down to %v", got)
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
	if got := ahead(t, c, physical); got != 5000 || c.Ahead() != 5000 {
		t.Fatalf("ahead of the limit that came later by %d, %d", got, c.Ahead())
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
