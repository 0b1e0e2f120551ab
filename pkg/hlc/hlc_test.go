package hlc

import (
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
				if c.Last() != greatest || c.Read() < greatest {
					t.Fatalf("Last = %v, Read = %v, want %v", c.Last(), c.Read(), greatest)
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

func TestMedianClock(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	m := NewMedianClock(func() time.Time { return now })
	own := func() int64 { return now.UnixMilli() }
	expect := func(what string, offset int64) {
		t.Helper()
		if got := m.Millis() - own(); got != offset {
			t.Errorf("%s: offset %d, want %d", what, got, offset)
		}
	}
	expect("alone", 0)
	m.Report("b", own()+5000)
	expect("of two the lower", 0)
	m.Report("b", own()-5000)
	expect("of two the lower", -5000)
	m.Report("c", own()-100)
	expect("of three the middle", -100)
	m.Report("c", own()+3_600_000)
	expect("one an hour fast", 0)
	m.Report("b", own()-5000) // b and c were heard now
	now = now.Add(SampleAge)
	expect("samples at the age limit", 0)
	m.Report("c", own()-200)
	now = now.Add(time.Second)
	expect("b has aged out", -200)
	now = now.Add(SampleAge)
	expect("all have aged out", 0)
}
