// Command sim runs whole clusters in one goroutine each: the real clock, store,
// replication, index and sessions of three to five nodes, a network that loses,
// repeats, delays and cuts, and virtual time. What a seed draws decides all that
// happens, so every run can be had again.
//
//	go run ./test/sim -seeds 1000
//	go run ./test/sim -profile skewed -seed 17 -v
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

func main() {
	debug.SetGCPercent(2000) // many short lives: memory for time
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	seeds   int
	first   uint64
	seed    uint64
	profile string
	verbose bool
	workers int
	limit   time.Duration
	cpu     string
	until   bool
	museum  bool
	exhibit string
}

func run(args []string, out, errOut io.Writer) int {
	var o options
	f := flag.NewFlagSet("sim", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.IntVar(&o.seeds, "seeds", 200, "how many seeds to run, spread over the profiles")
	f.Uint64Var(&o.first, "first", 1, "the first of them")
	f.Uint64Var(&o.seed, "seed", 0, "run only this one")
	f.StringVar(&o.profile, "profile", "", "run only this kind: "+profileNames())
	f.BoolVar(&o.verbose, "v", false, "print all that happens; with -seed")
	f.IntVar(&o.workers, "workers", 2, "seeds run at once")
	f.DurationVar(&o.limit, "for", 0, "stop after this time (0: never)")
	f.BoolVar(&o.until, "until", false, "stop at the first seed that fails")
	f.BoolVar(&o.museum, "museum", false, "build known bugs into the parts and count the seeds until each is found")
	f.StringVar(&o.exhibit, "exhibit", "", "with -museum: only bugs whose name contains this")
	f.StringVar(&o.cpu, "cpuprofile", "", "write a CPU profile to this file")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if o.seeds < 1 || o.workers < 1 || o.limit < 0 || f.NArg() > 0 {
		fmt.Fprintln(errOut, "sim: -seeds and -workers are 1 or more, -for is no negative time, and there are no arguments")
		return 2
	}
	if o.cpu != "" {
		stop, err := profileTo(o.cpu)
		if err != nil {
			fmt.Fprintln(errOut, err)
			return 2
		}
		defer stop()
	}
	if o.profile != "" && profileOf(o.profile, 1).name != o.profile {
		fmt.Fprintf(errOut, "sim: no profile %q; there are %s\n", o.profile, profileNames())
		return 2
	}
	if o.museum {
		return runMuseum(context.Background(), o.exhibit, out)
	}
	if o.seed != 0 {
		return runOne(&o, out)
	}
	return runMany(&o, out)
}

func profileTo(name string) (stop func(), err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

func profileNames() string {
	var names string
	for i, p := range profiles {
		if i > 0 {
			names += ", "
		}
		names += p.name
	}
	return names
}

// profileOf returns the profile that a seed runs: the named one, else one in
// turn, every second time the first.
func profileOf(name string, seed uint64) *profile {
	for _, p := range profiles {
		if p.name == name {
			return p
		}
	}
	if seed%2 == 1 {
		return profiles[0]
	}
	return profiles[1+seed/2%uint64(len(profiles)-1)]
}

func runOne(o *options, out io.Writer) int {
	var trace io.Writer
	if o.verbose {
		trace = out
	}
	r := simulate(o.seed, profileOf(o.profile, o.seed), trace)
	fmt.Fprintf(out, "seed %d, %s: trace %016x, %d events, %v of time in %v, %+v\n", r.seed, r.profile, r.hash, r.events,
		r.virtual.Round(time.Millisecond), r.cost.Round(time.Microsecond), r.count)
	return verdict(&r, out)
}

// verdict prints what is wrong with a run.
func verdict(r *result, out io.Writer) int {
	if r.broken != "" {
		fmt.Fprintf(out, "FAIL seed %d (go run ./test/sim -profile %s -seed %d -v): %s\n", r.seed, r.profile, r.seed, r.broken)
		return 1
	}
	if r.invalid != "" {
		fmt.Fprintf(out, "seed %d, %s, shows nothing: %s\n", r.seed, r.profile, r.invalid)
	}
	return 0
}

// summary is what many runs have to tell together.
type summary struct {
	runs, invalid, failed int
	virtual, cost         time.Duration
	count                 counts
	lags                  lagCounts
}

func (s *summary) add(r *result) {
	s.runs++
	if r.broken != "" {
		s.failed++
	} else if r.invalid != "" {
		s.invalid++
	}
	s.virtual += r.virtual
	s.cost += r.cost
	s.count.add(&r.count)
	for _, d := range r.lags {
		s.lags.add(d)
	}
}

func (c *counts) add(d *counts) {
	c.operations += d.operations
	c.writes += d.writes
	c.refused += d.refused
	c.faults += d.faults
	c.pulls += d.pulls
	c.fullCopies += d.fullCopies
	c.linkBytes += d.linkBytes
	c.sessions += d.sessions
	c.sessionBytes += d.sessionBytes
	c.useless += d.useless
	c.repaired += d.repaired
	c.phantoms += d.phantoms
	c.forgotten += d.forgotten
	c.lost += d.lost
	c.verdicts += d.verdicts
	c.checks += d.checks
}

func runMany(o *options, out io.Writer) int {
	begin := time.Now()
	sums := make(map[string]*summary)
	code := 0
	runSeeds(o, func(r *result) {
		s := sums[r.profile]
		if s == nil {
			s = new(summary)
			sums[r.profile] = s
		}
		s.add(r)
		code = max(code, verdict(r, out))
	})
	for _, p := range profiles {
		if s := sums[p.name]; s != nil {
			s.print(p.name, out)
		}
	}
	cpu, runs := cpuTime(), 0
	for _, s := range sums {
		runs += s.runs
	}
	fmt.Fprintf(out, "%d seeds in %v, %v of CPU each\n", runs, time.Since(begin).Round(time.Millisecond),
		(cpu / time.Duration(max(runs, 1))).Round(10*time.Microsecond))
	return code
}

// cpuTime returns what this process has used of its processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runSeeds runs seeds, several at once, and passes their results on, one at a
// time.
func runSeeds(o *options, done func(*result)) {
	begin := time.Now()
	var mu sync.Mutex
	next, end, over := o.first, o.first+uint64(o.seeds), false
	draw := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == end || over || o.limit > 0 && time.Since(begin) > o.limit {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var workers sync.WaitGroup
	for range o.workers {
		workers.Go(func() {
			for seed, more := draw(); more; seed, more = draw() {
				r := simulate(seed, profileOf(o.profile, seed), nil)
				mu.Lock()
				over = o.until && r.broken != ""
				done(&r)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
}

func (s *summary) print(name string, out io.Writer) {
	n := time.Duration(max(s.runs, 1))
	fmt.Fprintf(out, "%-8s %6d seeds, %d failed, %d show nothing; %v and %v of virtual time a seed\n", name, s.runs, s.failed,
		s.invalid, (s.cost / n).Round(10*time.Microsecond), (s.virtual / n).Round(100*time.Millisecond))
	c := &s.count
	fmt.Fprintf(out, "         %d writes (%d refused), %d faults, %d pulls, %d full copies, %d sessions (%d for nothing, %d keys, %d bytes), %d phantoms\n"+
		"         %d changes forgotten by disks, %d acknowledged writes that nobody had then\n",
		c.writes, c.refused, c.faults, c.pulls, c.fullCopies, c.sessions, c.useless, c.repaired, c.sessionBytes, c.phantoms, c.forgotten, c.lost)
	fmt.Fprintf(out, "         replication lag: p50 %v, p90 %v, p99 %v, greatest %v\n",
		s.lags.percentile(50), s.lags.percentile(90), s.lags.percentile(99), s.lags.greatest.Round(time.Millisecond))
}

// lagCounts counts lags by milliseconds; a long run has too many to keep them.
type lagCounts struct {
	byMillis []uint64 // the last one counts all that are longer
	total    uint64
	greatest time.Duration
}

const longestLag = 60_000 // milliseconds that are told apart

func (l *lagCounts) add(d time.Duration) {
	if l.byMillis == nil {
		l.byMillis = make([]uint64, longestLag+1)
	}
	l.byMillis[min(d.Milliseconds(), longestLag)]++
	l.total++
	l.greatest = max(l.greatest, d)
}

// percentile returns the lag that p of a hundred do not exceed.
func (l *lagCounts) percentile(p uint64) time.Duration {
	var seen uint64
	for millis, n := range l.byMillis {
		if seen += n; seen*100 >= l.total*p {
			return time.Duration(millis) * time.Millisecond
		}
	}
	return 0
}
