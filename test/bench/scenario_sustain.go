package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// Parts of the sustain scenario.
const (
	connsPerNode = 2
	// beat is how often a connection sends what has become due.
	beat = 2 * time.Millisecond
	// burst bounds what it sends at one beat after a stall.
	burst = 2048
	// lagBound is how long after the last write the nodes may still differ.
	lagBound = time.Second
	// achieved is the least part of the asked rate that counts as holding it.
	achieved = 0.98
)

// Metrics of replication that sustain looks at.
const (
	lagEntries = "merklekv_replication_lag_entries"
	lagSeconds = "merklekv_replication_lag_seconds"

	sessionsTotal = "merklekv_repair_sessions_total"
)

// shown are the metrics that explain a result, printed summed over the nodes.
var shown = []string{
	"merklekv_replication_published_total", "merklekv_replication_applied_total",
	"merklekv_replication_lost_total", "merklekv_replication_duplicate_total",
	"merklekv_replication_gaps_total", "merklekv_replication_pulls_total",
	"merklekv_replication_pulled_entries_total", "merklekv_replication_full_copies_total",
	"merklekv_replication_queue_full_dropped_total", sessionsTotal,
}

// errDiffer is returned when replicas are not equal in the end.
var errDiffer = errors.New("the nodes differ")

// runSustain writes at a fixed rate into all three nodes, and then wants to see
// nothing missing, equal contents and hardly any lag.
func runSustain(ctx context.Context, b *bench) (err error) {
	f, err := startFleet(ctx, b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	where := "in this process"
	if b.processes {
		where = "as processes"
	}
	b.printf("three nodes %s, %d writes/s in all for %v, %d connections a node, %d keys that all of them write\n",
		where, b.total, b.sustain, connsPerNode, b.keys)
	writes, elapsed, eq, err := b.writeWatched(ctx, f.clients)
	if err != nil {
		return err
	}
	lag, err := spread(ctx, f.clients, "sustain")
	if err != nil {
		return err
	}
	perSecond := ratio(float64(writes), elapsed.Seconds())
	b.printf("%d writes acknowledged in %v: %.0f a second\n", writes, elapsed.Round(time.Millisecond), perSecond)
	return errors.Join(
		b.verdict(perSecond >= achieved*float64(b.total), "%.0f writes/s, asked for %d", perSecond, b.total),
		b.must(lag <= lagBound, "last write visible everywhere after %v, at most %v", lag.Round(time.Millisecond), lagBound),
		b.checkGaps(ctx, f.admins),
		b.checkDumps(f.clients),
		b.checkRepair(ctx, f.admins, eq))
}

// writeWatched is writeAll while somebody asks whether the replicas are equal.
func (b *bench) writeWatched(ctx context.Context, addrs []string) (int, time.Duration, equality, error) {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	var eq equality
	var watcher errgroup.Group
	watcher.Go(func() (err error) {
		eq, err = watchEquality(watch, addrs[0])
		return err
	})
	writes, elapsed, err := b.writeAll(ctx, addrs)
	stop()
	return writes, elapsed, eq, errors.Join(err, watcher.Wait())
}

// checkRepair wants no repair where nothing was lost, and no doubt about it.
func (b *bench) checkRepair(ctx context.Context, admins []string, eq equality) error {
	total, err := sumOver(ctx, admins)
	if err != nil {
		return err
	}
	b.printf("      under load CONVERGED <version> was EQUAL %d times, after %v at most\n", eq.asked, eq.slowest.Round(time.Millisecond))
	return errors.Join(
		b.verdict(total[sessionsTotal] == 0, "%.0f repair sessions on a cluster that lost nothing", total[sessionsTotal]),
		b.must(eq.different == 0, "CONVERGED was DIFFERENT %d times on a cluster that lost nothing", eq.different))
}

// must prints a verdict that fails the scenario whatever the flags say.
func (b *bench) must(ok bool, format string, args ...any) error {
	if err := b.verdict(ok, format, args...); err != nil || ok {
		return err
	}
	return fmt.Errorf("%w: %s", errBound, fmt.Sprintf(format, args...))
}

// writeAll runs every connection, and returns how many writes were acknowledged
// in what time.
func (b *bench) writeAll(ctx context.Context, addrs []string) (int, time.Duration, error) {
	streams := connsPerNode * len(addrs)
	each := int(float64(b.total) * b.sustain.Seconds() / float64(streams))
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range streams {
		s := stream{
			bench: b, id: i, streams: streams, writes: each,
			interval: b.sustain / time.Duration(each), rng: uint64(i+1) * 0x9e3779b97f4a7c15,
		}
		group.Go(func() error { return s.run(ctx, addrs[i%len(addrs)], start) })
	}
	err := group.Wait()
	return each * streams, time.Since(start), err
}

// stream is one connection's part of the load.
type stream struct {
	*bench
	id, streams int
	writes      int           // to be sent
	interval    time.Duration // between two of them
	rng         uint64        // xorshift state
}

// run sends all writes and reads all replies.
func (s *stream) run(ctx context.Context, addr string, start time.Time) error {
	c, err := dialClient(addr, textDialect{})
	if err != nil {
		return err
	}
	defer c.close()
	group, ctx := errgroup.WithContext(ctx)
	cut := context.AfterFunc(ctx, c.close) // ends a blocked read or write
	defer cut()
	group.Go(func() error { return s.send(ctx, c, start) })
	group.Go(func() error { return acknowledged(ctx, c, s.writes) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("writes to %s: %w", addr, err)
	}
	return nil
}

// send writes what has become due at every beat. A server that is slower blocks
// it, and shows in the rate that is achieved.
func (s *stream) send(ctx context.Context, c *client, start time.Time) error {
	keys := newKeyspace("sus:", s.valueSize)
	var request, key, value []byte
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for sent := 0; sent < s.writes; {
		due := min(int(time.Since(start)/s.interval)+1, s.writes, sent+burst)
		request = request[:0]
		for ; sent < due; sent++ {
			key = keys.AppendKey(key[:0], s.pick())
			// No two writes of the run have the same value, so that a node on
			// which another write has won shows in its dump.
			value = keys.AppendValue(value[:0], sent*s.streams+s.id)
			request = textDialect{}.AppendSet(request, key, value)
		}
		if err := c.send(request); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// pick chooses a key at random, by xorshift64.
func (s *stream) pick() int {
	s.rng ^= s.rng << 13
	s.rng ^= s.rng >> 7
	s.rng ^= s.rng << 17
	return int(s.rng % uint64(s.keys))
}

// checkGaps waits until no node misses anything that another has, as the heads
// that come each second show it.
func (b *bench) checkGaps(ctx context.Context, admins []string) error {
	const patience = 10 * time.Second
	var total map[string]float64
	for deadline := time.Now().Add(patience); ; {
		var err error
		if total, err = sumOver(ctx, admins); err != nil {
			return err
		}
		if total[lagEntries] == 0 || time.Now().After(deadline) {
			break
		}
		if err := rest(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	for _, name := range shown {
		b.printf("      %-48s %12.0f\n", name, total[name])
	}
	return b.must(total[lagEntries] == 0 && total[lagSeconds] <= lagBound.Seconds(),
		"%.0f changes missing, %.3f s of lag, summed over nodes and origins", total[lagEntries], total[lagSeconds])
}

// sumOver adds up the metrics of all nodes. A node that does not tell its lag
// is an error, not a lag of zero.
func sumOver(ctx context.Context, admins []string) (map[string]float64, error) {
	total := make(map[string]float64)
	for _, admin := range admins {
		sums, err := scrape(ctx, admin)
		if err != nil {
			return nil, err
		}
		if _, ok := sums[lagEntries]; !ok {
			return nil, fmt.Errorf("metrics of %s: no %s, so the node sees no peer", admin, lagEntries)
		}
		for name, v := range sums {
			total[name] += v
		}
	}
	return total, nil
}

// checkDumps compares everything that the nodes hold.
func (b *bench) checkDumps(clients []string) error {
	var first [sha256.Size]byte
	same := true
	for i, addr := range clients {
		sum, n, err := dumpSum(addr)
		if err != nil {
			return fmt.Errorf("dump of node%d: %w", i+1, err)
		}
		b.printf("      dump of node%d: %d keys, sha256 %x\n", i+1, n, sum[:8])
		if i == 0 {
			first = sum
		}
		same = same && sum == first
	}
	if err := b.must(same, "dumps of all nodes are equal"); err != nil {
		return errors.Join(errDiffer, err)
	}
	return nil
}

// dumpSum hashes every key and value of a node.
func dumpSum(addr string) (sum [sha256.Size]byte, n int, err error) {
	c, err := dialClient(addr, textDialect{})
	if err != nil {
		return sum, 0, err
	}
	defer c.close()
	hash := sha256.New()
	n, err = c.dump(hash, "")
	copy(sum[:], hash.Sum(nil))
	return sum, n, err
}
