package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

var (
	simFor    = flag.Duration("sim.for", 20*time.Second, "how long TestSeeds runs seeds")
	simFirst  = flag.Uint64("sim.first", 1, "the first seed of TestSeeds")
	simMuseum = flag.Bool("sim.museum", false, "TestMuseum hunts all bugs, not only some")
)

// simLeast is how many seeds TestSeeds runs, whatever the time.
var simLeast = flag.Int("sim.least", 24, "how many seeds TestSeeds runs at least")

func TestSeeds(t *testing.T) {
	limit := *simFor
	if testing.Short() {
		limit = min(limit, 3*time.Second)
	}
	runs, invalid, last := 0, 0, uint64(0)
	o := &options{seeds: 1 << 30, first: *simFirst, workers: 2, limit: limit}
	runSeeds(o, func(r *result) {
		runs++
		last = max(last, r.seed)
		if r.broken != "" {
			t.Errorf("go run ./test/sim -profile %s -seed %d -v: %s", r.profile, r.seed, r.broken)
		} else if r.invalid != "" {
			invalid++
		}
	})
	o = &options{seeds: max(0, *simLeast-runs), first: last + 1, workers: 2}
	runSeeds(o, func(r *result) {
		runs++
		if r.broken != "" {
			t.Errorf("go run ./test/sim -profile %s -seed %d -v: %s", r.profile, r.seed, r.broken)
		}
	})
	t.Logf("seeds %d to %d, %d of them show nothing", *simFirst, last, invalid)
	if invalid*10 > runs {
		t.Errorf("%d of %d seeds show nothing", invalid, runs)
	}
}

// Seeds that once found something.
func TestSeedsThatFoundSomething(t *testing.T) {
	for _, c := range []struct {
		profile string
		seed    uint64
		found   string
	}{
		{"short", 28, "a vector that counted what only something newer stood for, told beside the root of before"},
		{"short", 76, "gaps of an instance that ended, each of which held the roots back anew"},
		{"mixed", 33, "the same"},
		{"skewed", 13, "clocks that were told medians of medians, and stayed wrong together"},
		{"skewed", 213, "what was put off, and came 300 s after it was due"},
		{"skewed", 725, "the same after a refusal"},
		{"quiet", 2330, "a peer that was thought to refuse what it made during a pull"},
	} {
		if r := simulate(c.seed, profileOf(c.profile, c.seed), nil); r.broken != "" {
			t.Errorf("%s, seed %d, which once found %s: %s", c.profile, c.seed, c.found, r.broken)
		}
	}
}

func TestDeterminism(t *testing.T) {
	for _, p := range profiles {
		for seed := uint64(101); seed < 104; seed++ {
			a, b := simulate(seed, p, nil), simulate(seed, p, nil)
			if a.hash != b.hash || a.events != b.events || a.count != b.count {
				t.Errorf("%s, seed %d: traces %016x and %016x of %d and %d events", p.name, seed, a.hash, b.hash, a.events, b.events)
			}
			if c := simulate(seed+1, p, nil); c.hash == a.hash {
				t.Errorf("%s, seeds %d and %d have the same trace", p.name, seed, seed+1)
			}
		}
	}
}

func TestTraceDoesNotDependOnItsReader(t *testing.T) {
	var out strings.Builder
	if a, b := simulate(5, profiles[0], nil), simulate(5, profiles[0], &out); a.hash != b.hash || out.Len() == 0 {
		t.Errorf("traces %016x and %016x, %d bytes printed", a.hash, b.hash, out.Len())
	}
}

// What the oracle is for: each of these must not pass.
func TestOracleNotices(t *testing.T) {
	entry := func(w *world, key, value string, instance uint64) *kv.Change {
		millis := began + w.now.Milliseconds()
		return &kv.Change{Origin: instance, Entry: kv.Entry{
			Key: []byte(key), Version: kv.Version{HLC: hlc.At(millis), Instance: instance}, Value: []byte(value),
		}}
	}
	for name, c := range map[string]struct {
		spoil func(w *world)
		want  string
	}{
		"nothing":      {func(*world) {}, ""},
		"an invention": {func(w *world) { w.nodes[0].store.Apply(entry(w, "made up", "x", 77)) }, "dumps of nodes"},
		"an invention everywhere": {func(w *world) {
			for _, n := range w.nodes {
				n.store.Apply(entry(w, "made up", "x", 77))
			}
			w.runUntil(w.now+3*time.Second, w.wrong)
		}, "what nobody wrote"},
		"a write that nobody has": {func(w *world) {
			w.history.record(1, entry(w, "key:0001", "x", 77), w.now)
		}, "acknowledged was"},
		"a name that nobody has": {func(w *world) {
			w.history.record(1, entry(w, "new", "x", 77), w.now)
		}, "names are held"},
		"a claim of what is not there": {func(w *world) {
			w.history.record(1, entry(w, "new", "x", 77), w.now)
			i := w.history.byVersion[kv.Version{HLC: hlc.At(began + w.now.Milliseconds()), Instance: 77}]
			own := w.nodes[0].core.Held()[0]
			w.history.byPlace[place{own.Instance, 1}] = i
			w.nodes[1].claims[own.Instance] = 0
			w.nodes[1].checkClaims()
		}, "does not have it"},
		"a version given twice": {func(w *world) {
			change := kv.Change{Entry: w.history.writes[0].entry}
			if why := w.history.record(0, &change, w.now); why != "" {
				w.fail("%s", why)
			}
		}, "given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(3, still, nil)
			defer w.close()
			w.net.calm = true
			for _, n := range w.nodes {
				n.boot()
			}
			w.runUntil(2*time.Second, w.wrong)
			w.writeAll(20)
			w.settle()
			if w.wrong() {
				t.Fatal(w.broken)
			}
			c.spoil(w)
			if why := w.unequal(); why != "" && !w.wrong() {
				w.fail("%s", why)
			}
			if !w.wrong() {
				w.judge()
			}
			if c.want == "" && w.wrong() || !strings.Contains(w.broken, c.want) {
				t.Errorf("found %q, want %q", w.broken, c.want)
			}
		})
	}
}

// In the museum every edit must still fit the source; some of the bugs are hunted.
func TestMuseum(t *testing.T) {
	dir, err := root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range museum {
		if _, err := museum[i].overlay(dir, t.TempDir()); err != nil {
			t.Error(err)
		}
	}
	if testing.Short() {
		t.Skip("bugs are hunted without -short")
	}
	bugs := exhibits("")
	if !*simMuseum {
		bugs = bugs[:hunted]
	}
	visit(context.Background(), dir, bugs, func(x *exhibit, seeds int, found string, err error) {
		switch {
		case err != nil:
			t.Error(err)
		case found == "":
			t.Errorf("%s was not found in %d seeds of %q", x.name, seeds, x.profile)
		default:
			t.Logf("%s: seed %d of %q: %s", x.name, seeds, x.profile, found)
		}
	})
}

// hunted is how many bugs are hunted each time: each takes a build.
const hunted = 4

func TestCommandLine(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		code int
		want string
	}{
		"one seed":           {"-profile quiet -seed 3", 0, "trace"},
		"some":               {"-profile lossy -seeds 2 -workers 1", 0, "2 seeds"},
		"an unknown profile": {"-profile nothing", 2, ""},
		"an unknown flag":    {"-nothing", 2, ""},
		"no seeds at all":    {"-seeds -3", 2, ""},
		"an argument":        {"seed 3", 2, ""},
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(c.args), &out, io.Discard); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: code %d, %q", name, code, out.String())
		}
	}
}
