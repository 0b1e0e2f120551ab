package replication

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"merklekv/pkg/internal/mqttlink"
)

// broker is the link to one broker as a publisher sees it.
type broker interface {
	// Send begins to publish; what one goroutine sends arrives in that order. wait
	// returns when the message is out, or acknowledged, and must be called once.
	Send(ctx context.Context, topic string, retained bool, payload []byte) (wait func(context.Context) error, err error)
	Up() bool
}

// inFlight is how many messages of a publisher may wait for the broker to
// acknowledge them, so that a broker that is far away does not slow it down.
const inFlight = 16

// flight is a message on its way.
type flight struct {
	wait    func(context.Context) error
	changes int
	bytes   int
}

// publisher sends own changes and heads to one broker, in this order: a head
// follows the changes that it tells of.
type publisher struct {
	link     broker
	rep      Replica
	codec    *Codec
	counter  *atomic.Uint64
	instance uint64
	updates  string // topic
	heads    string // topic
	met      *metrics
	// alone reports whether no peer is alive that would take what is published.
	alone func() bool
	// paused reports whether own changes are not to be published; nil: never.
	paused func() bool

	wake chan struct{}          // capacity 1
	head atomic.Pointer[[]byte] // the next one to go out
	ask  atomic.Pointer[[]byte] // a request for heads that is to go out
	sent chan flight            // made and closed by run

	batches *Batcher
	pace    pacer
}

// poke says that there may be something to publish.
func (p *publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run publishes until ctx ends, and then what is left, for as long as flush
// lives.
func (p *publisher) run(ctx, flush context.Context) {
	p.sent = make(chan flight, inFlight-2) // settle holds one, and one is sent before it has a place
	var settled sync.WaitGroup
	settled.Go(func() { p.settle(flush) })
	defer settled.Wait()
	defer close(p.sent)
	for {
		select {
		case <-p.wake:
			p.publishAll(ctx, true)
		case <-ctx.Done():
			p.publishAll(flush, false)
			return
		}
	}
}

func (p *publisher) publishAll(ctx context.Context, paced bool) {
	head := p.head.Swap(nil)
	if ask := p.ask.Swap(nil); ask != nil && p.link.Up() {
		p.send(ctx, p.heads, *ask, 0)
	}
	for p.link.Up() && ctx.Err() == nil {
		if p.paused != nil && p.paused() {
			p.batches.Skip() // peers see a gap and fetch it later
			break
		}
		alone := p.alone()
		if paced && !p.pace.wait(ctx, gather(alone)) {
			return
		}
		if alone {
			p.skip()
		}
		body, n := p.batches.Next()
		if n == 0 {
			break
		}
		p.pace.sent(n)
		message := p.codec.Seal(KindBatch, p.instance, p.counter.Add(1), body)
		if !p.send(ctx, p.updates, message, n) {
			break
		}
	}
	if !p.link.Up() {
		// What is made meanwhile is not kept for the broker: peers see a gap and
		// fetch it.
		p.batches.Skip()
		return
	}
	if head != nil {
		p.send(ctx, p.heads, *head, 0) // should it fail, another one follows in a second
	}
}

// skip passes over all but the newest changes when there are many and nobody but
// an onlooker hears them. A peer that comes pulls what it lacks at its start.
func (p *publisher) skip() {
	if head := p.rep.LogHead(); head-p.batches.pos > 2*onlookers {
		p.batches.pos = head - onlookers
	}
}

// send begins to publish a message with a number of changes.
func (p *publisher) send(ctx context.Context, topic string, message []byte, changes int) bool {
	wait, err := p.link.Send(ctx, topic, false, message)
	if err != nil {
		if errors.Is(err, mqttlink.ErrTooLarge) {
			p.met.tooLarge.Inc()
		}
		return false
	}
	p.sent <- flight{wait: wait, changes: changes, bytes: len(message)}
	return true
}

// settle waits for what was sent, in its order. What fails is not sent again:
// receivers see a gap.
func (p *publisher) settle(ctx context.Context) {
	for f := range p.sent {
		if f.wait(ctx) == nil && f.changes > 0 {
			p.met.published.Add(float64(f.changes))
			p.met.batchBytes.Add(float64(f.bytes))
		}
	}
}

const (
	// linger is how long changes are gathered under a high rate.
	linger = 2 * time.Millisecond
	// lingerAlone is the same while no peer is alive.
	lingerAlone = 50 * time.Millisecond
	// onlookers is how many changes of such a time are published.
	onlookers = 1024
)

// gather returns how long to gather changes under a high rate.
func gather(alone bool) time.Duration {
	if alone {
		return lingerAlone
	}
	return linger
}

// pacer keeps the rate of messages low when the rate of changes is high, and the
// delay of a change low when it is not: up to 1,000 messages a second go out at
// once, with bursts of 8; above that, changes are gathered for a while until that
// gathers few.
type pacer struct {
	tokens   float64
	last     time.Time
	lingers  bool
	interval *time.Timer
}

const (
	paceBurst = 8
	fewer     = 4 // changes gathered in a linger that end it
)

// wait lets linger pass if the rate is high, and reports whether ctx still lives.
func (p *pacer) wait(ctx context.Context, linger time.Duration) bool {
	now := time.Now()
	p.tokens = min(paceBurst, p.tokens+float64(now.Sub(p.last))/float64(time.Millisecond))
	p.last = now
	if p.tokens < 1 {
		p.lingers = true
	}
	if !p.lingers {
		return true
	}
	if p.interval == nil {
		p.interval = time.NewTimer(linger)
	} else {
		p.interval.Reset(linger)
	}
	select {
	case <-p.interval.C:
		return true
	case <-ctx.Done():
		p.interval.Stop()
		return false
	}
}

// sent records that a message with n changes goes out.
func (p *pacer) sent(n int) {
	p.tokens--
	if n <= fewer {
		p.lingers = false
	}
}
