package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// promise is one meaning of an acknowledged write, and how each server is told.
type promise struct {
	text  string
	fsync string  // of a node
	redis string  // appendfsync
	bound float64 // least ratio to Redis
}

var promises = []promise{
	{"an acknowledged write is on the disk", "always", "always", 0.8},
	{"an acknowledged write is on the disk within a second", "interval", "everysec", 1},
}

const (
	durableConns    = 64
	durablePipeline = 16
)

// errNoDisk is returned where durability would be measured without a disk.
var errNoDisk = errors.New("data would lie in memory; name a directory on a disk with TMPDIR")

// needDisk returns errNoDisk when files of this run do not lie on a disk.
func (b *bench) needDisk() error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return fmt.Errorf("file system of %s: %w", b.dir, err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s: %w", b.dir, errNoDisk)
	}
	return nil
}

// runDurable measures writes with data on disk, of one node and of Redis in turn,
// on the same file system.
func runDurable(ctx context.Context, b *bench) error {
	if err := b.needDisk(); err != nil {
		return err
	}
	b.printf("SET, %d connections, pipeline %d, %d B values, %d keys, %d runs of %v each, interleaved; medians\n",
		durableConns, durablePipeline, b.valueSize, b.keys, b.runs, b.duration)
	var missed []error
	for _, p := range promises {
		err := b.runPromise(ctx, p)
		if errors.Is(err, errNotInstalled) {
			b.printf("skipped: %v\n", err)
			return nil
		}
		missed = append(missed, err)
	}
	return errors.Join(missed...)
}

// runPromise measures both servers with one promise.
func (b *bench) runPromise(ctx context.Context, p promise) error {
	dir, err := os.MkdirTemp(b.dir, p.fsync+"-")
	if err != nil {
		return err
	}
	ours, theirs, err := b.startDurablePair(ctx, dir, p)
	if err != nil {
		return err
	}
	defer ours.stop()
	defer theirs.stop()
	for _, s := range []*server{ours, theirs} {
		if err := b.fill(ctx, s, b.keys); err != nil {
			return err
		}
	}
	var a, z figures
	for range b.runs {
		if err := b.measureDurable(ctx, ours, &a); err != nil {
			return err
		}
		if err := b.measureDurable(ctx, theirs, &z); err != nil {
			return err
		}
	}
	resident, err := residentBytes(ours.pid())
	if err != nil {
		return err
	}
	quotient := ratio(median(a.perSecond), median(z.perSecond))
	b.printf("      fsync %s: %s %.0f/s, Redis appendfsync %s: %.0f/s; CPU s per 10^6: %.2f and %.2f; resident %d MiB\n",
		p.fsync, ours.label, median(a.perSecond), p.redis, median(z.perSecond), a.cpuPerMillion(), z.cpuPerMillion(), resident>>20)
	return b.verdict(quotient >= p.bound, "%s: %.2f of Redis, at least %.2f", p.text, quotient, p.bound)
}

// startDurablePair starts one node and Redis with data in dir, or leaves nothing
// running.
func (b *bench) startDurablePair(ctx context.Context, dir string, p promise) (ours, theirs *server, err error) {
	theirs, err = startRedisLog(ctx, filepath.Join(dir, "redis"), p)
	if err != nil {
		return nil, nil, err
	}
	if b.self {
		ours, err = startRedisLog(ctx, filepath.Join(dir, "self"), p)
	} else {
		ours, err = b.startDurable(ctx, dir, p)
	}
	if err != nil {
		theirs.stop()
	}
	return ours, theirs, err
}

// startRedisLog starts a Redis with an append-only file.
func startRedisLog(ctx context.Context, dir string, p promise) (*server, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	s, err := launchRedis(dir, addrs[0], "--appendonly", "yes", "--appendfsync", p.redis)
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// startDurable starts one node with data on disk.
func (b *bench) startDurable(ctx context.Context, dir string, p promise) (*server, error) {
	bin, err := b.merklekv(ctx)
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(3)
	if err != nil {
		return nil, err
	}
	return startNode(ctx, bin, dir, addrs[0], addrs[1], durableSettings(dir, addrs, p.fsync))
}

// durableSettings are those of a single node that keeps its data.
func durableSettings(dir string, addrs []string, fsync string) settings {
	set := singleSettings(dir, addrs)
	set["storage.persistence_enabled"] = "true"
	set["storage.fsync"] = fsync
	return set
}

// measureDurable adds one run to f.
func (b *bench) measureDurable(ctx context.Context, s *server, f *figures) error {
	durable := *b
	durable.conns = durableConns
	return durable.measure(ctx, cell{opSet, durablePipeline}, s, f)
}
