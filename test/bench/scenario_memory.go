package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settleTime is how long a loaded server is left alone before it is measured: a
// garbage collector gives memory back late.
const settleTime = 10 * time.Second

// memoryUse is what a server held at three moments, in bytes.
type memoryUse struct {
	empty, loaded, settled int64
}

// perKey returns what n keys added, and all that is resident, a key.
func (m memoryUse) perKey(n int) (added, all float64) {
	return float64(m.settled-m.empty) / float64(n), float64(m.settled) / float64(n)
}

// runMemory loads the same keys into one node and into Redis.
func runMemory(ctx context.Context, b *bench) error {
	ours, theirs, err := b.startPair(ctx)
	if errors.Is(err, errNotInstalled) {
		b.printf("skipped: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer ours.stop()
	defer theirs.stop()
	b.printf("%d keys of %d B with values of %d B; resident after %v of rest\n",
		b.loadKeys, keyLen, b.valueSize, settleTime)
	b.printf("%-10s %11s %11s %11s %12s %12s\n", "", "empty MiB", "loaded MiB", "rested MiB", "B/key added", "B/key in all")
	a, err := b.memoryOf(ctx, ours)
	if err != nil {
		return err
	}
	z, err := b.memoryOf(ctx, theirs)
	if err != nil {
		return err
	}
	oursAdded, oursAll := a.perKey(b.loadKeys)
	theirsAdded, theirsAll := z.perKey(b.loadKeys)
	all := ratio(oursAll, theirsAll)
	b.printf("ratio to Redis: added %.2f, in all %.2f\n", ratio(oursAdded, theirsAdded), all)
	return b.verdict(all <= 1, "resident bytes a key in all, index included: %.2f of Redis, at most 1.00", all)
}

// memoryOf loads one server and prints its row.
func (b *bench) memoryOf(ctx context.Context, s *server) (memoryUse, error) {
	var m memoryUse
	var err error
	if m.empty, err = residentBytes(s.pid()); err != nil {
		return m, err
	}
	if err = b.fill(ctx, s, b.loadKeys); err != nil {
		return m, err
	}
	if m.loaded, err = residentBytes(s.pid()); err != nil {
		return m, err
	}
	if err = rest(ctx, settleTime); err != nil {
		return m, err
	}
	if m.settled, err = residentBytes(s.pid()); err != nil {
		return m, err
	}
	if err = b.holds(s, b.loadKeys); err != nil {
		return m, err
	}
	added, all := m.perKey(b.loadKeys)
	const mib = 1 << 20
	b.printf("%-10s %11.1f %11.1f %11.1f %12.1f %12.1f\n", s.label,
		float64(m.empty)/mib, float64(m.loaded)/mib, float64(m.settled)/mib, added, all)
	return m, nil
}

// holds checks that a server has exactly n keys.
func (b *bench) holds(s *server, n int) error {
	c, err := dialClient(s.addr, s.dialect)
	if err != nil {
		return err
	}
	defer c.close()
	have, err := c.size()
	if err != nil {
		return err
	}
	if have != n {
		return s.failure(fmt.Errorf("has %d keys, was given %d", have, n))
	}
	return nil
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
