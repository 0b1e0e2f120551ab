package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// operation is what a load consists of.
type operation uint8

const (
	opSet operation = iota
	opGet
)

func (op operation) String() string {
	if op == opGet {
		return "GET"
	}
	return "SET"
}

// load describes a closed-loop load: each connection sends a pipeline of
// requests and waits for all of its replies before it sends the next.
type load struct {
	addr       string // host:port, an IPv4 address
	dialect    dialect
	op         operation
	conns      int
	pipeline   int
	keys       int // of the key space
	space      keyspace
	sequential bool          // every key once, in order, instead of at random
	stride     int           // sequential: from one key to the next, coprime to keys; 0: 1
	requests   int           // stop after as many; 0: only by time
	duration   time.Duration // stop after; 0: only by number
}

// loadResult is what a load has done. Every request was answered as expected.
type loadResult struct {
	requests int
	elapsed  time.Duration
}

// perSecond returns requests per second.
func (r loadResult) perSecond() float64 {
	return ratio(float64(r.requests), r.elapsed.Seconds())
}

// silence is how long a server may answer nothing at all.
const silence = 10 * time.Second

var (
	errUnexpectedReply = errors.New("unexpected reply")
	errSilent          = errors.New("the server stopped answering")
	errServerClosed    = errors.New("the server closed the connection")
)

// runLoad does what l says, and stops at the first reply that is not the
// expected one.
func runLoad(ctx context.Context, l load) (loadResult, error) {
	g := generator{load: l, rng: 0x9e3779b97f4a7c15}
	defer g.close()
	if err := g.open(); err != nil {
		return loadResult{}, fmt.Errorf("load on %s: %w", l.addr, err)
	}
	start := time.Now()
	if err := g.run(ctx, start); err != nil {
		return loadResult{}, fmt.Errorf("load on %s: %w", l.addr, err)
	}
	return loadResult{requests: g.answered, elapsed: time.Since(start)}, nil
}

// generator drives all connections of one load from one goroutine.
type generator struct {
	load
	poll     poller
	conns    []*loadConn
	rng      uint64 // xorshift state
	begun    int    // requests sent
	answered int    // requests answered
	busy     int    // connections with requests in flight
	scratch  []byte // the value last compared with
}

// open dials every connection.
func (g *generator) open() error {
	var err error
	if g.poll, err = newPoller(g.load.conns); err != nil {
		return err
	}
	for id := range g.load.conns {
		c, err := dialLoad(g.addr)
		if err != nil {
			return err
		}
		g.conns = append(g.conns, c)
		if err := g.poll.add(c.fd, id); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) close() {
	for _, c := range g.conns {
		_ = unix.Close(c.fd)
	}
	g.poll.close()
}

// run keeps every connection busy until the load's end, and returns when all
// that was sent is answered.
func (g *generator) run(ctx context.Context, start time.Time) error {
	for _, c := range g.conns {
		if err := g.send(c); err != nil {
			return err
		}
	}
	for g.busy > 0 {
		ready, err := g.poll.wait(silence)
		if err != nil {
			return err
		}
		if len(ready) == 0 {
			return errSilent
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		over := g.duration > 0 && time.Since(start) >= g.duration
		for _, event := range ready {
			if err := g.advance(g.conns[event.Fd], over); err != nil {
				return err
			}
		}
	}
	return nil
}

// advance reads what a connection has got, checks it, and sends the next
// requests when all are answered.
func (g *generator) advance(c *loadConn, over bool) error {
	if err := c.fill(); err != nil {
		return err
	}
	if err := g.check(c); err != nil {
		return err
	}
	if c.answered < len(c.asked) {
		return nil
	}
	g.busy--
	if over {
		c.asked = c.asked[:0]
		return nil
	}
	return g.send(c)
}

// send writes the next pipeline of a connection, shorter or none at the end.
func (g *generator) send(c *loadConn) error {
	n := g.pipeline
	if g.requests > 0 {
		n = min(n, g.requests-g.begun)
	}
	c.asked, c.answered, c.out = c.asked[:0], 0, c.out[:0]
	if n <= 0 {
		return nil
	}
	for range n {
		i := g.nextKey()
		g.begun++
		c.asked = append(c.asked, i)
		c.key = g.space.AppendKey(c.key[:0], i)
		if g.op == opSet {
			g.scratch = g.space.AppendValue(g.scratch[:0], i)
			c.out = g.dialect.AppendSet(c.out, c.key, g.scratch)
		} else {
			c.out = g.dialect.AppendGet(c.out, c.key)
		}
	}
	g.busy++
	return c.flush()
}

// nextKey picks the next key: in order, or at random by xorshift64.
func (g *generator) nextKey() int {
	if g.sequential {
		return g.begun * max(g.stride, 1) % g.keys
	}
	g.rng ^= g.rng << 13
	g.rng ^= g.rng >> 7
	g.rng ^= g.rng << 17
	return int(g.rng % uint64(g.keys))
}

// check compares the replies that are complete with what they must be.
func (g *generator) check(c *loadConn) error {
	at := 0
	for c.answered < len(c.asked) {
		r, n, err := g.dialect.Next(c.in[at:c.have])
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if !g.expected(r, c.asked[c.answered]) {
			return fmt.Errorf("%w to %s of key %d: %.100q", errUnexpectedReply, g.op, c.asked[c.answered], r.body)
		}
		at += n
		c.answered++
		g.answered++
	}
	c.consume(at)
	if c.answered == len(c.asked) && c.have > 0 {
		return fmt.Errorf("%w: %d bytes more than were asked for", errUnexpectedReply, c.have)
	}
	return nil
}

func (g *generator) expected(r reply, i int) bool {
	if r.kind != replyText {
		return false
	}
	if g.op == opSet {
		return string(r.body) == "OK"
	}
	var same bool
	same, g.scratch = g.space.IsValue(r.body, i, g.scratch)
	return same
}
