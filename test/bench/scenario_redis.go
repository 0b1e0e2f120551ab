package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// bounds are the least ratios to Redis, by pipeline.
var bounds = map[int]float64{1: 0.75, 16: 1.1, 64: 1.5}

// cell is one row of the table: an operation at a pipeline.
type cell struct {
	op       operation
	pipeline int
}

// figures are the runs of one server in one cell.
type figures struct {
	perSecond []float64
	requests  int
	cpu       time.Duration
}

// cpuPerMillion returns CPU seconds per 10^6 requests.
func (f figures) cpuPerMillion() float64 {
	return ratio(f.cpu.Seconds()*1e6, float64(f.requests))
}

// runRedis measures one node and Redis in turn, so that whatever else the
// machine does falls on both.
func runRedis(ctx context.Context, b *bench) error {
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
	b.printf("%d connections, %d B values, %d keys, %d runs of %v each, interleaved; medians\n",
		b.conns, b.valueSize, b.keys, b.runs, b.duration)
	b.printf("%-4s %8s %14s %14s %7s %7s %22s\n", "op", "pipeline", ours.label+"/s", theirs.label+"/s", "ratio", "bound", "CPU s per 10^6 requests")
	for _, s := range []*server{ours, theirs} {
		if err := b.fill(ctx, s, b.keys); err != nil {
			return err
		}
	}
	var missed []error
	for _, op := range []operation{opSet, opGet} {
		for _, p := range b.pipelines {
			if err := b.compare(ctx, cell{op, p}, ours, theirs); err != nil {
				missed = append(missed, err)
			}
		}
	}
	return errors.Join(missed...)
}

// startPair starts one node and Redis, or leaves nothing behind.
func (b *bench) startPair(ctx context.Context) (ours, theirs *server, err error) {
	theirs, err = startRedis(ctx, b.dir)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			theirs.stop()
		}
	}()
	if b.self {
		ours, err = startRedis(ctx, b.dir)
		return ours, theirs, err
	}
	bin, err := b.merklekv(ctx)
	if err != nil {
		return nil, nil, err
	}
	ours, err = startSingle(ctx, bin, b.dir)
	return ours, theirs, err
}

// fill stores each of the first n keys once.
func (b *bench) fill(ctx context.Context, s *server, n int) error {
	_, err := runLoad(ctx, load{
		addr: s.addr, dialect: s.dialect, op: opSet, conns: 8, pipeline: 64,
		keys: n, space: newKeyspace("key:", b.valueSize), sequential: true, requests: n,
	})
	if err != nil {
		return s.failure(err)
	}
	return nil
}

// compare runs one cell on both servers and prints its row.
func (b *bench) compare(ctx context.Context, c cell, ours, theirs *server) error {
	var a, z figures
	for range b.runs {
		if err := b.measure(ctx, c, ours, &a); err != nil {
			return err
		}
		if err := b.measure(ctx, c, theirs, &z); err != nil {
			return err
		}
	}
	quotient := ratio(median(a.perSecond), median(z.perSecond))
	bound, bounded := bounds[c.pipeline]
	b.printf("%-4s %8d %14.0f %14.0f %7.2f %7s %10.2f %11.2f\n", c.op, c.pipeline,
		median(a.perSecond), median(z.perSecond), quotient, boundText(bound, bounded, quotient),
		a.cpuPerMillion(), z.cpuPerMillion())
	if bounded && quotient < bound && b.check {
		return fmt.Errorf("%w: %s at pipeline %d is %.2f of Redis, must be %.2f", errBound, c.op, c.pipeline, quotient, bound)
	}
	return nil
}

// boundText marks a bound that is missed.
func boundText(bound float64, bounded bool, quotient float64) string {
	switch {
	case !bounded:
		return "-"
	case quotient < bound:
		return fmt.Sprintf("!%.2f", bound)
	default:
		return fmt.Sprintf("%.2f", bound)
	}
}

// measure adds one run to f.
func (b *bench) measure(ctx context.Context, c cell, s *server, f *figures) error {
	before, err := cpuTime(s.pid())
	if err != nil {
		return err
	}
	result, err := runLoad(ctx, load{
		addr: s.addr, dialect: s.dialect, op: c.op, conns: b.conns, pipeline: c.pipeline,
		keys: b.keys, space: newKeyspace("key:", b.valueSize), requests: b.requests, duration: b.duration,
	})
	if err != nil {
		return s.failure(err)
	}
	after, err := cpuTime(s.pid())
	if err != nil {
		return err
	}
	f.perSecond = append(f.perSecond, result.perSecond())
	f.requests += result.requests
	f.cpu += after - before
	return nil
}

// runPlainLoad loads a server that somebody else started.
func runPlainLoad(ctx context.Context, b *bench) error {
	var d dialect = textDialect{}
	if b.resp {
		d = respDialect{}
	}
	s := &server{process: &process{name: b.addr}, addr: b.addr, dialect: d}
	op := opSet
	if b.get {
		op = opGet
		if err := b.fill(ctx, s, b.keys); err != nil {
			return err
		}
	}
	for _, p := range b.pipelines {
		result, err := runLoad(ctx, load{
			addr: s.addr, dialect: s.dialect, op: op, conns: b.conns, pipeline: p,
			keys: b.keys, space: newKeyspace("key:", b.valueSize), requests: b.requests, duration: b.duration,
		})
		if err != nil {
			return err
		}
		b.printf("%s at pipeline %d: %d requests in %v, %.0f a second\n",
			op, p, result.requests, result.elapsed.Round(time.Millisecond), result.perSecond())
	}
	return nil
}
