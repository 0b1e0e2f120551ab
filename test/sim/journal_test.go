package main

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// what a disk holds, in words.
func contents(d *disk) string {
	var s string
	for _, name := range slices.Sorted(maps.Keys(d.kept.entries)) {
		s += fmt.Sprintf("%q %v, ", name, d.kept.entries[name].Version)
	}
	return s + fmt.Sprint(d.kept.marks())
}

// After a crash a disk holds what one would that was given the first records only,
// all at once: those that were synced and perhaps some more.
func TestDiskKeepsAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := policy(rapid.IntRange(int(always), int(never)).Draw(t, "policy"))
		d := newDisk(policy, func() time.Duration { return 0 })
		var calls []func(*disk)
		do := func(call func(*disk)) {
			calls = append(calls, call)
			call(d)
		}
		small := rapid.Uint64Range(1, 6)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			origin, seq := small.Draw(t, "origin"), small.Draw(t, "seq")
			stamp := hlc.At(int64(seq))
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				c := &kv.Change{Origin: origin, Seq: seq, Entry: kv.Entry{
					Key: fmt.Append(nil, small.Draw(t, "key")), Version: kv.Version{HLC: stamp, Instance: origin},
				}}
				do(func(d *disk) { d.Append(c) })
			case 2:
				do(func(d *disk) { d.Note(origin, seq, stamp) })
			case 3:
				do(func(d *disk) { d.Vouch(journal.Mark{Origin: origin, Seq: seq, Stamp: stamp}) })
			case 4:
				d.write(journal.Ticket(rapid.Uint64Range(uint64(d.written), uint64(d.appended)).Draw(t, "written")))
			case 5:
				d.sync(journal.Ticket(rapid.Uint64Range(uint64(d.synced), uint64(d.appended)).Draw(t, "synced")))
			}
			if d.Wait(t.Context(), d.Durable()) != nil || d.appended > d.Durable() && d.Wait(t.Context(), d.Durable()+1) == nil {
				t.Fatalf("%v: Wait does not agree with Durable, %d of %d", policy, d.Durable(), d.appended)
			}
		}
		keeps := rapid.Uint64Range(uint64(d.synced), uint64(d.appended)).Draw(t, "keeps")
		lost := d.crash(journal.Ticket(keeps))
		want := newDisk(instant, nil)
		for _, call := range calls[:keeps] {
			call(want)
		}
		if len(lost) != len(calls)-int(keeps) || contents(d) != contents(want) {
			t.Fatalf("%d of %d kept, %d lost: %s, want %s", keeps, len(calls), len(lost), contents(d), contents(want))
		}
		d.open()
		if !slices.Equal(d.Received(), want.kept.marks()) || contents(d) != contents(want) {
			t.Fatalf("opened: %v, want %v", d.Received(), want.kept.marks())
		}
	})
}

// What lies above a gap is forgotten by a restart: it is not on the disk.
func TestDiskForgetsWhatIsAboveAGap(t *testing.T) {
	d := newDisk(instant, nil)
	d.Note(1, 1, hlc.At(1))
	d.Note(1, 3, hlc.At(3))
	d.crash(d.appended)
	d.open()
	d.Note(1, 2, hlc.At(2))
	want := []journal.Mark{{Origin: 1, Seq: 2, Stamp: hlc.At(2)}}
	if got := d.kept.marks(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A disk that failed acknowledges nothing, and its node ends and starts again with
// what was synced.
func TestDiskThatFails(t *testing.T) {
	for _, p := range []policy{always, interval, never} {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(3, still, nil)
			defer w.close()
			w.net.calm = true
			for _, n := range w.nodes {
				n.disk = newDisk(p, w.time)
				n.boot()
			}
			w.runUntil(2*time.Second, w.wrong)
			n := w.nodes[1]
			life := n.life
			n.disk.failing = true
			first := len(w.history.writes)
			ticket := n.operate()
			for ticket == 0 { // nothing was there to be deleted
				first = len(w.history.writes)
				ticket = n.operate()
			}
			w.runUntil(w.now+time.Second, w.wrong)
			switch {
			case w.wrong():
				t.Fatal(w.broken)
			case w.history.writes[first].acked:
				t.Error("a write was acknowledged though the disk had failed")
			case n.life == life:
				t.Error("the node goes on")
			}
			w.runUntil(w.now+5*time.Second, w.wrong)
			if !n.up || w.wrong() {
				t.Errorf("up: %v, %s", n.up, w.broken)
			}
			w.settle()
			if w.wrong() {
				t.Error(w.broken)
			}
		})
	}
}

// What a disk loses is told from what it may lose.
func TestLossIsJudged(t *testing.T) {
	for _, c := range []struct {
		policy policy
		how    death
		acked  bool
		age    time.Duration
		wrong  bool
	}{
		{always, powerOff, true, 0, true},
		{always, powerOff, false, 0, false},
		{always, killed, true, 0, true},
		{interval, killed, true, 0, true},
		{interval, powerOff, true, window / 2, false},
		{interval, powerOff, false, window + time.Second, true},
		{never, powerOff, true, 100 * time.Second, false},
		{never, ofDisk, true, 100 * time.Second, false},
		{never, killed, true, 0, true},
	} {
		w := newWorld(3, still, nil)
		n := w.nodes[0]
		n.disk, n.instance, w.now = newDisk(c.policy, w.time), 7, 200*time.Second
		change := &kv.Change{Origin: 7, Seq: 1, Entry: kv.Entry{Key: []byte("k"), Version: kv.Version{HLC: hlc.At(began), Instance: 7}}}
		w.history.record(0, change, w.now)
		w.history.writes[0].acked = c.acked
		w.judgeLoss(n, &record{at: w.now - c.age, entry: &change.Entry}, c.how)
		if w.wrong() != c.wrong {
			t.Errorf("%+v: %q", c, w.broken)
		}
		w.recount(n)
		if seen := w.history.writes[0].seen; seen != 0 {
			t.Errorf("%+v: held by %b", c, seen)
		}
	}
}
