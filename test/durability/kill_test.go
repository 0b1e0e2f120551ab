package durability

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	kills = flag.Int("durability.kills", 24, "how often nodes with fsync=always are killed; those of the other modes a fourth of it each")
	seed  = flag.Uint64("durability.seed", 0, "draws what is written and when the node is killed; 0 takes the time")
)

// program is the path of the real thing, built once.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "merklekv-durability-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "merklekv")
	if said, err := exec.Command("go", "build", "-o", program, "merklekv/cmd/merklekv").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, said)
		os.Exit(1)
	}
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// lanes is how many nodes of fsync=always are killed at the same time: a start waits
// more than it computes.
const lanes = 4

// What was acknowledged outlives the process, whatever fsync says: in all modes a write
// is handed to the system before it is acknowledged.
func TestKillLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nodes; not with -short")
	}
	drawn := *seed
	if drawn == 0 {
		drawn = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: go test ./test/durability -run %s -durability.seed %d -durability.kills %d", drawn, t.Name(), drawn, *kills)
	for lane := range lanes + 2 {
		fsync, count := "always", (*kills+lanes-1)/lanes
		if lane >= lanes {
			fsync, count = []string{"interval", "never"}[lane-lanes], (*kills+3)/4
		}
		t.Run(fmt.Sprintf("%s/%d", fsync, lane), func(t *testing.T) {
			t.Parallel()
			newLane(t, fsync, rand.New(rand.NewPCG(drawn, uint64(lane)))).run(t, count)
		})
	}
}

// lane is one node after the other, and what is known of their keys.
type lane struct {
	site    *site
	random  *rand.Rand
	ledgers []*ledger

	acked, unasked, started, stopped int
	slowest                          time.Duration // start
}

func newLane(t *testing.T, fsync string, r *rand.Rand) *lane {
	t.Helper()
	return &lane{site: newSite(t, fsync), random: r, ledgers: newLedgers()}
}

// newSite is an empty place for a node. It is kept when the test has failed.
func newSite(t *testing.T, fsync string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "merklekv-killed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data and logs are kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return &site{program: program, dir: dir, fsync: fsync}
}

const connections = 6

func newLedgers() []*ledger {
	all := make([]*ledger, connections)
	for i := range all {
		all[i] = newLedger(fmt.Sprintf("c%d", i))
	}
	return all
}

func (l *lane) run(t *testing.T, count int) {
	for round := range count {
		if round > 0 && l.random.IntN(20) == 0 { // the first start of a node is a moment, too
			last, err := l.startAndCheck(t.Context())
			if err != nil {
				t.Fatalf("after round %d of %d: %v", round, count, err)
			}
			last.kill()
			l.site, l.ledgers = newSite(t, l.site.fsync), newLedgers()
		}
		if err := l.round(t.Context()); err != nil {
			t.Fatalf("round %d of %d: %v", round+1, count, err)
		}
	}
	last, err := l.startAndCheck(t.Context())
	if err != nil {
		t.Fatalf("after the last round: %v", err)
	}
	last.kill()
	t.Logf("%d kills under load, %d at the start, %d stops; %d requests acknowledged, none lost; %d steps kept beyond them; slowest start %v",
		count-l.stopped, l.started, l.stopped, l.acked, l.unasked, l.slowest.Round(time.Millisecond))
	if count >= 10 && l.acked == 0 {
		t.Error("nothing was acknowledged in all rounds: this shows nothing")
	}
}

// round starts the node, looks whether everything is there, writes and ends it.
func (l *lane) round(ctx context.Context) error {
	if l.random.IntN(8) == 0 {
		if err := l.killAtStart(); err != nil {
			return err
		}
	}
	c, err := l.startAndCheck(ctx)
	if err != nil {
		return err
	}
	gracefully := l.random.IntN(10) == 0
	if err := l.load(c, gracefully); err != nil {
		return fmt.Errorf("%w\n%s", err, c.tail())
	}
	return nil
}

// startAndCheck returns a node that serves and has everything.
func (l *lane) startAndCheck(ctx context.Context) (*child, error) {
	began := time.Now()
	c, err := l.site.start(ctx)
	if err != nil {
		return nil, err
	}
	l.slowest = max(l.slowest, time.Since(began))
	if err := l.check(c); err != nil {
		c.kill()
		return nil, fmt.Errorf("%w\n%s", err, c.tail())
	}
	return c, nil
}

// killAtStart kills a node that loads its data, or that serves just so.
func (l *lane) killAtStart() error {
	c, err := l.site.launch()
	if err != nil {
		return err
	}
	moment := time.NewTimer(time.Duration(l.random.IntN(200)) * time.Millisecond)
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-c.done:
		if said := c.tail(); !strings.Contains(said, "address already in use") {
			return fmt.Errorf("the node ended at its start, %v:\n%s", c.cmd.ProcessState, said)
		}
	}
	c.kill()
	l.started++
	return nil
}

// load writes over all connections until the node is killed, or stopped gracefully,
// after a number of acknowledgements that is drawn.
func (l *lane) load(c *child, gracefully bool) error {
	var acked atomic.Int64
	enough := int64(1) << l.random.IntN(13)
	enough += l.random.Int64N(enough)
	late := time.Duration(l.random.IntN(3000)) * time.Microsecond
	errs := make([]error, len(l.ledgers))
	var writers sync.WaitGroup
	for i, ledger := range l.ledgers {
		r := rand.New(rand.NewPCG(l.random.Uint64(), uint64(i)))
		pipeline, longest := 1<<r.IntN(6), 1<<(4+r.IntN(4))
		if i == 0 { // one writes long values, so that memory tables fill up and are flushed
			pipeline, longest = 16, len(padding)>>r.IntN(6)
		}
		writers.Go(func() { errs[i] = ledger.converse(c.Address, r, pipeline, longest, &acked) })
	}
	err := l.await(c, &acked, enough, late)
	if gracefully && err == nil {
		l.stopped++
		if code := c.stop(); code != 0 {
			err = fmt.Errorf("exit code %d after SIGTERM, want 0", code)
		}
	}
	c.kill()
	writers.Wait()
	l.acked += int(acked.Load())
	return errors.Join(append(errs, err)...)
}

// await returns when so many requests are acknowledged, and a little later.
func (l *lane) await(c *child, acked *atomic.Int64, enough int64, late time.Duration) error {
	limit := time.NewTimer(startWithin)
	defer limit.Stop()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for acked.Load() < enough {
		select {
		case <-c.done:
			return fmt.Errorf("the node ended by itself, %v", c.cmd.ProcessState)
		case <-limit.C:
			return fmt.Errorf("%d requests of %d acknowledged within %v", acked.Load(), enough, startWithin)
		case <-tick.C:
		}
	}
	moment := time.NewTimer(late)
	defer moment.Stop()
	<-moment.C
	return nil
}

// check compares all that the node holds with what it must.
func (l *lane) check(c *child) error {
	held, err := c.Dump()
	if err != nil {
		return err
	}
	parts := map[string]map[string]string{}
	for key, value := range held {
		owner, _, _ := strings.Cut(key, ":")
		if parts[owner] == nil {
			parts[owner] = map[string]string{}
		}
		parts[owner][key] = value
	}
	var errs []error
	for _, ledger := range l.ledgers {
		kept, err := ledger.survive(parts[ledger.name])
		errs = append(errs, err)
		l.unasked += kept
		delete(parts, ledger.name)
	}
	if len(parts) > 0 {
		errs = append(errs, fmt.Errorf("keys that nobody wrote: %v", slices.Sorted(maps.Keys(parts))))
	}
	return errors.Join(errs...)
}
