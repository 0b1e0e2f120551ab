package backup

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestWhenTheNextBackupIsDue(t *testing.T) {
	const interval = 20 * time.Hour
	for name, tc := range map[string]struct {
		last  time.Duration // before the start; 0: there is none
		share float64
		want  time.Duration // after the start
	}{
		"none yet":         {0, 0, settle},
		"none yet, later":  {0, 0.5, settle + settleMore/2},
		"an old one":       {30 * time.Hour, 0, settle},
		"a recent one":     {5 * time.Hour, 0, 15 * time.Hour},
		"recent, earlier":  {5 * time.Hour, 0.5, 14*time.Hour + 30*time.Minute},
		"just due":         {20 * time.Hour, 0, settle},
		"of the future":    {-time.Hour, 0, interval},
		"nearly due, late": {20*time.Hour - time.Second, 0, settle},
	} {
		var last time.Time
		if tc.last != 0 {
			last = start.Add(-tc.last)
		}
		s := newSchedule(interval, start, last, func() float64 { return tc.share })
		if got := s.due(start).Sub(start); got != tc.want {
			t.Errorf("%s: due after %v, want %v", name, got, tc.want)
		}
	}
}

func TestFailuresAreTriedAgainSoonerThanTheInterval(t *testing.T) {
	s := newSchedule(24*time.Hour, start, start.Add(-time.Hour), func() float64 { return 0 })
	now := start
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		s.missed(now)
		if got := s.due(now).Sub(now); got != want*time.Minute {
			t.Errorf("after %d failures: %v, want %d min", i+1, got, want)
		}
	}
	s.made(now)
	if got := s.due(now).Sub(now); got != 24*time.Hour {
		t.Errorf("after a good one: %v", got)
	}
}

// Whatever happens and however the clock is set: a backup is due within the
// interval of now, after failures within an hour, and a good one is never older
// than the interval when the next is due, as long as the clock only goes on.
func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		interval := time.Duration(rapid.IntRange(1, 24*366).Draw(t, "hours")) * time.Hour
		draw := func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "draw") }
		var last time.Time
		if rapid.Bool().Draw(t, "one is there") {
			last = start.Add(-time.Duration(rapid.IntRange(-1000, 10000).Draw(t, "hours ago")) * time.Hour)
		}
		s, now := newSchedule(interval, start, last, draw), start
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-500, 1000).Draw(t, "minutes")) * time.Minute)
			due := s.due(now)
			if due.Sub(now) > max(interval, settle+settleMore) {
				t.Fatalf("due in %v, the interval is %v", due.Sub(now), interval)
			}
			if s.failures > 0 && due.Sub(now) > time.Hour {
				t.Fatalf("after a failure due in %v", due.Sub(now))
			}
			if s.failures == 0 && !s.last.IsZero() && s.last.Before(now) && due.Sub(s.last) > interval && due.After(s.start.Add(settle+settleMore)) {
				t.Fatalf("due %v after the last good one, the interval is %v", due.Sub(s.last), interval)
			}
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				s.made(now)
			case 1:
				s.missed(now)
			}
		}
	})
}

func TestOverdue(t *testing.T) {
	s := newSchedule(time.Hour, start, time.Time{}, func() float64 { return 0 })
	for after, want := range map[time.Duration]bool{0: false, 2 * time.Hour: false, 2*time.Hour + 1: true} {
		if s.overdue(start.Add(after)) != want {
			t.Errorf("%v after the start: overdue is %v", after, !want)
		}
	}
	s.made(start.Add(3 * time.Hour))
	if s.overdue(start.Add(5*time.Hour)) || !s.overdue(start.Add(6*time.Hour)) {
		t.Error("a good backup is not what counts")
	}
}
