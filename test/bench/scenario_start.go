package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// startBound is what loading may take of the time that Redis takes.
const startBound = 0.7

// loadTimeout is how long a server may take to load its data.
const loadTimeout = 5 * time.Minute

// kept is a server that does not run, with its data on disk.
type kept struct {
	launch func() (*server, error)
	end    func(*server) // how the run ends, for the start after it
	took   []float64     // seconds
	cpu    []float64     // seconds, of all processors
}

// runStart measures how long a node and Redis take, from the start of the process,
// until they serve what they have on disk: Redis from its RDB file, the node with
// its index. What they read is in the system's cache.
func runStart(ctx context.Context, b *bench) error {
	if err := b.needDisk(); err != nil {
		return err
	}
	theirs, err := b.keepRedis(ctx)
	if errors.Is(err, errNotInstalled) {
		b.printf("skipped: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := b.keepNode(ctx)
	if err != nil {
		return err
	}
	// The node is stopped and killed in turn: each start follows what the other one's
	// run ended with.
	afterStop := &kept{launch: ours.launch, end: func(s *server) { s.kill() }}
	afterKill := &kept{launch: ours.launch, end: func(s *server) { s.stop() }}
	b.printf("%d keys of %d B with values of %d B; from the start of the process until all are served, index included; medians of %d\n",
		b.loadKeys, keyLen, b.valueSize, b.runs)
	for range b.runs {
		for _, k := range []*kept{theirs, afterStop, afterKill} {
			if err := b.timeStart(ctx, k); err != nil {
				return err
			}
		}
	}
	b.printf("      MerkleKV %.3f s after it was stopped, %.3f s after it was killed, Redis %.3f s; CPU s: %.2f, %.2f and %.2f\n",
		median(afterStop.took), median(afterKill.took), median(theirs.took),
		median(afterStop.cpu), median(afterKill.cpu), median(theirs.cpu))
	quotient := ratio(median(afterStop.took), median(theirs.took))
	return b.verdict(quotient <= startBound, "loading takes %.2f of Redis, at most %.2f", quotient, startBound)
}

// timeStart adds one start to a server's figures, and stops it again.
func (b *bench) timeStart(ctx context.Context, k *kept) error {
	start := time.Now()
	s, err := k.launch()
	if err != nil {
		return err
	}
	defer k.end(s)
	for b.serves(s) != nil {
		select {
		case <-s.done:
			return s.failure(errors.New("ended while it loaded"))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
		if time.Since(start) > loadTimeout {
			return s.failure(errors.New("does not come to serve"))
		}
	}
	k.took = append(k.took, time.Since(start).Seconds())
	used, err := cpuTime(s.pid())
	k.cpu = append(k.cpu, used.Seconds())
	return err
}

// serves returns nil when a server has all keys, and the index over them if it has
// one.
func (b *bench) serves(s *server) error {
	c, err := dialClient(s.addr, s.dialect)
	if err != nil {
		return err
	}
	defer c.close()
	n, err := c.size()
	if err != nil {
		return err
	}
	if n != b.loadKeys {
		return fmt.Errorf("%d keys of %d", n, b.loadKeys)
	}
	if _, resp := s.dialect.(respDialect); resp {
		return nil
	}
	r, err := c.do([]byte("HASH\r\n"))
	if err == nil && r.kind != replyText {
		err = fmt.Errorf("%w to HASH: %.100q", errUnexpectedReply, r.body)
	}
	return err
}

// keepRedis fills a Redis, has it write its RDB file and stops it.
func (b *bench) keepRedis(ctx context.Context) (*kept, error) {
	dir := filepath.Join(b.dir, "start-redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	k := &kept{end: func(s *server) { s.stop() }}
	k.launch = func() (*server, error) { return launchRedis(dir, addrs[0], "--appendonly", "no") }
	return k, b.fillKept(ctx, k, "*1\r\n$4\r\nSAVE\r\n")
}

// keepNode fills a node and stops it.
func (b *bench) keepNode(ctx context.Context) (*kept, error) {
	bin, err := b.merklekv(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "start-node")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(3)
	if err != nil {
		return nil, err
	}
	k := &kept{end: func(s *server) { s.stop() }}
	k.launch = func() (*server, error) {
		return launchNode(bin, dir, addrs[0], addrs[1], durableSettings(dir, addrs, "always"))
	}
	return k, b.fillKept(ctx, k, "")
}

// fillKept starts a server, fills it, sends it a request if there is one, and stops
// it.
func (b *bench) fillKept(ctx context.Context, k *kept, request string) error {
	s, err := k.launch()
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := b.fill(ctx, s, b.loadKeys); err != nil || request == "" {
		return err
	}
	c, err := dialClient(s.addr, s.dialect)
	if err != nil {
		return err
	}
	defer c.close()
	if r, err := c.do([]byte(request)); err != nil || r.kind != replyText {
		return s.failure(fmt.Errorf("%w to %q: %.100q %w", errUnexpectedReply, request, r.body, err))
	}
	return nil
}
