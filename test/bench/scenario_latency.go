package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Bounds of the latency scenario.
const (
	medianBound = 3 * time.Millisecond
	tailBound   = 20 * time.Millisecond // of the 99th percentile
)

const (
	// nap is how long the reader rests when the next key is not there yet: it
	// is the resolution of what is measured, and what keeps the reader from
	// taking the CPU that the nodes need.
	nap = 100 * time.Microsecond
	// lookAhead is how many keys the reader asks for at once, so that it catches
	// up quickly after a stall.
	lookAhead = 16
)

// errInvisible is returned when a write is not seen on the other node in time.
var errInvisible = errors.New("a write did not become visible")

// paced is a stream of numbered writes, with the instant at which each was sent.
type paced struct {
	space keyspace
	start time.Time
	sent  []time.Duration // since start; sent[:count] is there
	count atomic.Int64
}

// runLatency writes on node1 at a fixed rate and watches node3.
func runLatency(ctx context.Context, b *bench) error {
	bin, err := b.merklekv(ctx)
	if err != nil {
		return err
	}
	c, err := startCluster(ctx, bin, b.dir)
	if err != nil {
		return err
	}
	defer c.stop()
	n := int(b.sustain.Seconds() * float64(b.rate))
	b.printf("three node processes and a broker, %d writes/s to node1 for %v, watched on node3\n", b.rate, b.sustain)
	seen, err := measureLatency(ctx, c, newKeyspace("lat:", b.valueSize), n, b.rate)
	if err != nil {
		return err
	}
	slices.Sort(seen)
	half, tail := percentile(seen, 50), percentile(seen, 99)
	b.printf("%d writes: p50 %v  p90 %v  p99 %v  p99.9 %v  max %v\n", len(seen), round(half),
		round(percentile(seen, 90)), round(tail), round(percentile(seen, 99.9)), round(seen[len(seen)-1]))
	return errors.Join(
		b.verdict(half <= medianBound, "p50 %v, at most %v", round(half), medianBound),
		b.verdict(tail <= tailBound, "p99 %v, at most %v", round(tail), tailBound))
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// measureLatency sends n writes and returns how long each took to be visible.
func measureLatency(ctx context.Context, c *cluster, space keyspace, n, rate int) ([]time.Duration, error) {
	writer, err := dialClient(c.nodes[0].addr, textDialect{})
	if err != nil {
		return nil, err
	}
	defer writer.close()
	reader, err := dialClient(c.nodes[2].addr, textDialect{})
	if err != nil {
		return nil, err
	}
	defer reader.close()
	p := &paced{space: space, start: time.Now(), sent: make([]time.Duration, n)}
	var seen []time.Duration
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.write(ctx, writer, rate) })
	group.Go(func() error { return acknowledged(ctx, writer, n) })
	group.Go(func() error {
		var err error
		seen, err = p.watch(ctx, reader)
		return err
	})
	return seen, group.Wait()
}

// write sends each key when it is due, whatever became of the ones before.
func (p *paced) write(ctx context.Context, c *client, rate int) error {
	var key, value, request []byte
	for i := range p.sent {
		due := p.start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if err := napUntil(due); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		key, value = p.space.AppendKey(key[:0], i), p.space.AppendValue(value[:0], i)
		request = textDialect{}.AppendSet(request[:0], key, value)
		p.sent[i] = time.Since(p.start)
		p.count.Store(int64(i + 1)) // before the write: the reader may see it at once
		if err := c.send(request); err != nil {
			return err
		}
	}
	return nil
}

// napUntil waits more exactly than a Go timer, which rounds to milliseconds.
func napUntil(due time.Time) error {
	left := time.Until(due)
	if left <= 0 {
		return nil
	}
	t := unix.NsecToTimespec(left.Nanoseconds())
	if err := unix.Nanosleep(&t, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("nanosleep: %w", err)
	}
	return nil
}

// acknowledged reads n replies, each of which must be OK.
func acknowledged(ctx context.Context, c *client, n int) error {
	for i := range n {
		r, err := c.receive()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if string(r.body) != "OK" {
			return fmt.Errorf("%w to write %d: %.100q", errUnexpectedReply, i, r.body)
		}
	}
	return nil
}

// watch asks for the keys in the order in which they were written and notes when
// each is there.
func (p *paced) watch(ctx context.Context, c *client) ([]time.Duration, error) {
	seen := make([]time.Duration, 0, len(p.sent))
	progress := time.Now()
	for len(seen) < len(p.sent) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		ask := min(int(p.count.Load())-len(seen), lookAhead)
		found, err := p.look(c, len(seen), ask)
		if err != nil {
			return nil, err
		}
		now := time.Since(p.start)
		for range found {
			seen = append(seen, now-p.sent[len(seen)])
			progress = time.Now()
		}
		if time.Since(progress) > visibleTimeout {
			return nil, fmt.Errorf("%w: number %d, within %v", errInvisible, len(seen), visibleTimeout)
		}
		if found < lookAhead {
			if err := napUntil(time.Now().Add(nap)); err != nil {
				return nil, err
			}
		}
	}
	return seen, nil
}

// look asks for n keys from number first on, and returns how many of them are
// there before the first that is not.
func (p *paced) look(c *client, first, n int) (int, error) {
	if n == 0 {
		return 0, nil
	}
	var request, key, value []byte
	for i := range n {
		key = p.space.AppendKey(key[:0], first+i)
		request = textDialect{}.AppendGet(request, key)
	}
	if err := c.send(request); err != nil {
		return 0, err
	}
	found, missed := 0, false
	for i := range n {
		r, err := c.receive()
		if err != nil {
			return 0, err
		}
		missed = missed || r.kind == replyNull
		if missed {
			continue
		}
		var same bool
		if same, value = p.space.IsValue(r.body, first+i, value); !same {
			return 0, fmt.Errorf("%w: key %d is %.100q", errUnexpectedReply, first+i, r.body)
		}
		found++
	}
	return found, nil
}
