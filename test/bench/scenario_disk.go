package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

const (
	diskBound      = 2.5 // bytes on disk, of what clients stored
	diskOverwrites = 10
	diskConns      = 32
	// diskStride leads from one key to the next, so that neighbours in time are none
	// in order: a prime above all numbers of keys.
	diskStride = 100_000_007

	settledAfter  = 5 * time.Second // without a change
	settleTimeout = 5 * time.Minute
	blockSize     = 512 // of st_blocks, whatever the file system's own is
)

// runDisk writes every key, overwrites each ten times, and counts what the data
// directory takes once compaction has settled.
func runDisk(ctx context.Context, b *bench) error {
	if err := b.needDisk(); err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "bench")
	ours, err := b.startDurable(ctx, b.dir, promises[1])
	if err != nil {
		return err
	}
	defer ours.stop()
	b.printf("%d keys of %d B with values of %d B, then %d overwrites of each in an order that is not theirs, fsync %s\n",
		b.loadKeys, keyLen, b.valueSize, diskOverwrites, promises[1].fsync)
	for range 1 + diskOverwrites {
		if err := b.overwrite(ctx, ours); err != nil {
			return err
		}
	}
	written, err := diskBytes(dir)
	if err != nil {
		return err
	}
	settled, err := settledBytes(ctx, dir)
	if err != nil {
		return err
	}
	if err := b.holds(ours, b.loadKeys); err != nil {
		return err
	}
	live := int64(b.loadKeys) * int64(keyLen+b.valueSize)
	const mib = 1 << 20
	b.printf("      live %.1f MiB, on disk %.1f MiB after the last write, %.1f MiB settled, and a ballast of %.1f MiB beside it\n",
		float64(live)/mib, float64(written.data)/mib, float64(settled.data)/mib, float64(settled.ballast)/mib)
	quotient := float64(settled.data) / float64(live)
	return b.verdict(quotient <= diskBound, "bytes on disk: %.2f of the live keys and values, at most %.2f", quotient, diskBound)
}

// overwrite writes each key once.
func (b *bench) overwrite(ctx context.Context, s *server) error {
	_, err := runLoad(ctx, load{
		addr: s.addr, dialect: s.dialect, op: opSet, conns: diskConns, pipeline: 64,
		keys: b.loadKeys, space: newKeyspace("key:", b.valueSize), sequential: true, stride: diskStride, requests: b.loadKeys,
	})
	if err != nil {
		return s.failure(err)
	}
	return nil
}

// diskUse is what the files below a directory take.
type diskUse struct {
	data    int64
	ballast int64 // in reserve for a full disk, of a fixed size
}

// diskBytes counts blocks, not lengths: a log is given its blocks before it is
// written.
func diskBytes(dir string) (diskUse, error) {
	var u diskUse
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return goneIsNothing(err)
		}
		info, err := entry.Info()
		if err != nil {
			return goneIsNothing(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no count of blocks here", path)
		}
		if entry.Name() == "ballast" {
			u.ballast += st.Blocks * blockSize
		} else {
			u.data += st.Blocks * blockSize
		}
		return nil
	})
	return u, err
}

// goneIsNothing drops the error of a file that was removed meanwhile.
func goneIsNothing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// settledBytes returns what the files take once that has not changed for a while.
func settledBytes(ctx context.Context, dir string) (last diskUse, err error) {
	since, limit := time.Now(), time.Now().Add(settleTimeout)
	for time.Since(since) < settledAfter {
		now, err := diskBytes(dir)
		if err != nil {
			return now, err
		}
		if now != last {
			last, since = now, time.Now()
		}
		if since.After(limit) {
			return last, fmt.Errorf("%s does not settle", dir)
		}
		if err := rest(ctx, 200*time.Millisecond); err != nil {
			return last, err
		}
	}
	return last, nil
}
