package mqttlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"merklekv/pkg/internal/address"
)

// stable is how long a session must last to count as a success. One that is
// shorter makes the next attempt wait, or two nodes with the same client id would
// throw each other out as fast as they can dial.
const stable = 5 * time.Second

// takeovers is how many short sessions in a row look like two clients that share
// one client id.
const takeovers = 4

// keptWills is how many wills of a link are known again when they come: that of
// the present connection, and that of the one which the broker notices late to be
// dead.
const keptWills = 2

// logEvery is how often a failure is logged that goes on.
const logEvery = 30 * time.Second

// Stats are counts since New.
type Stats struct {
	Connects  uint64 // sessions that came up
	Failures  uint64 // attempts that failed and sessions that were lost
	Published uint64 // messages out
	Received  uint64 // messages in, those dropped included
	Dropped   uint64 // messages dropped because the Handler was too slow
	Oversize  uint64 // messages dropped because they were larger than MaxPacket
	Queued    int    // messages that wait for the Handler now
	LastError error  // why the link is, or was last, down; nil if never
	State     State
}

// Link is the connection of a node to one broker. All methods may be called by
// several goroutines at once.
type Link struct {
	opts   Options
	broker address.Broker // its name is resolved anew at every dial
	dial   Dialer
	qos    byte
	log    *slog.Logger

	queue       chan delivery
	queuedBytes atomic.Int64
	running     atomic.Bool

	connects, failures, published, received, dropped, oversize atomic.Uint64

	mu      sync.Mutex
	current *session // nil when down
	state   State
	lastErr error
	wills   [keptWills]Message // that the broker may still publish, newest first
}

// delivery is a message on its way to the Handler.
type delivery struct {
	topic   string
	payload []byte
}

// New returns a link that is down. It reports all that is wrong with the options
// in one error and does not connect.
func New(o Options) (*Link, error) {
	o = o.withDefaults()
	broker, err := address.ParseBroker(o.BrokerURL)
	if err != nil {
		err = fmt.Errorf("broker address %w", err)
	}
	if err = errors.Join(err, o.validate()); err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	l := &Link{
		opts: o, broker: broker, dial: o.Dial, qos: 1,
		log:   o.Logger.With("component", "mqtt", "broker", broker.Address()),
		queue: make(chan delivery, o.QueueLen),
		state: State{Reason: ErrDown, Since: time.Now()},
	}
	if o.CleanSession {
		l.qos = 0
	}
	if l.dial == nil {
		l.dial = defaultDial(o.Silence)
	}
	return l, nil
}

// Run keeps the link up until ctx ends, and returns nil when everything that it
// started has stopped and the broker has been told, so that it publishes no will.
// It must be called once.
func (l *Link) Run(ctx context.Context) error {
	if l.running.Swap(true) {
		return errors.New("mqtt: Run was called before")
	}
	var handler sync.WaitGroup
	handler.Go(func() { l.deliver(ctx) })
	defer handler.Wait()

	pause := newBackoff(l.opts)
	logged := time.Time{}
	short := 0 // sessions in a row that did not last
	for ctx.Err() == nil {
		lasted, err := l.session(ctx)
		if ctx.Err() != nil {
			break
		}
		l.failures.Add(1)
		if time.Since(logged) >= logEvery || lasted > 0 {
			l.log.Warn("broker is not connected", "error", err)
			logged = time.Now()
		}
		if lasted >= stable {
			pause.reset()
			short = 0
			continue
		}
		if lasted > 0 {
			short++
		}
		if lasted > 0 && short%takeovers == 0 {
			l.log.Error("broker ends the connection again and again: is another client using the same client id?",
				"client_id", l.opts.ClientID, "error", err)
		}
		sleep(ctx, pause.next())
	}
	return nil
}

// session runs one session to its end, and returns how long it was up.
func (l *Link) session(ctx context.Context) (lasted time.Duration, err error) {
	s := newSession(l)
	if err := s.connect(ctx); err != nil {
		l.down(err)
		return 0, err
	}
	up := time.Now()
	l.up(s)
	err = s.watch(ctx)
	l.down(err)
	s.close()
	return time.Since(up), err
}

func (l *Link) up(s *session) {
	l.connects.Add(1)
	l.log.Info("broker is connected")
	l.mu.Lock()
	l.current = s
	l.state = State{Up: true, Since: time.Now()}
	state := l.state
	l.mu.Unlock()
	l.opts.OnState(state)
}

// down records why the link is down, and tells it if it was up or if the reason
// is the first one.
func (l *Link) down(reason error) {
	l.mu.Lock()
	changed := l.state.Up || l.lastErr == nil
	if l.state.Up {
		l.state.Since = time.Now()
	}
	l.current = nil
	l.state.Up, l.state.Reason = false, reason
	l.lastErr = reason
	state := l.state
	l.mu.Unlock()
	if changed {
		l.opts.OnState(state)
	}
}

// Publish sends a message: at QoS 0 it returns when the message is handed to the
// operating system, at QoS 1 when the broker has acknowledged it. It returns
// ErrDown at once when the link is down, ErrTooLarge, or ctx's error; the message
// may be out nevertheless when it fails later. The payload must not be changed
// before it returns; after ctx's error, ever.
func (l *Link) Publish(ctx context.Context, topic string, retained bool, payload []byte) error {
	wait, err := l.Send(ctx, topic, retained, payload)
	if err != nil {
		return err
	}
	return wait(ctx)
}

// Send begins to publish a message. The broker receives messages in the order in
// which one goroutine sends them. Its errors are Publish's; without one, wait
// does what is left of Publish, and must be called once. Send blocks while
// Options.Window messages are on their way.
func (l *Link) Send(ctx context.Context, topic string, retained bool, payload []byte) (wait func(context.Context) error, err error) {
	if len(payload) > l.opts.MaxPacket {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), l.opts.MaxPacket)
	}
	if !validTopic(topic) {
		return nil, fmt.Errorf("mqtt: topic %q is empty or has a wildcard", topic)
	}
	l.mu.Lock()
	s := l.current
	l.mu.Unlock()
	if s == nil {
		return nil, ErrDown
	}
	token, err := s.begin(ctx, Message{Topic: topic, Payload: payload, Retained: retained})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return s.finish(ctx, token) }, nil
}

// Up reports whether the link is up.
func (l *Link) Up() bool { return l.State().Up }

// State returns whether the link is up, and why it is not.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Broker returns the address of the broker as host:port.
func (l *Link) Broker() string { return l.broker.Address() }

// Stats returns the counts so far.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	state, lastErr := l.state, l.lastErr
	l.mu.Unlock()
	return Stats{
		Connects: l.connects.Load(), Failures: l.failures.Load(),
		Published: l.published.Load(), Received: l.received.Load(),
		Dropped: l.dropped.Load(), Oversize: l.oversize.Load(),
		Queued: len(l.queue), LastError: lastErr, State: state,
	}
}

// rememberWill notes the will of a connection that is about to be made.
func (l *Link) rememberWill(m Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	copy(l.wills[1:], l.wills[:])
	l.wills[0] = m
}

// ownWill reports whether a message is a will of this link.
func (l *Link) ownWill(topic string, payload []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.wills[:], func(w Message) bool {
		return w.Topic == topic && bytes.Equal(w.Payload, payload)
	})
}

// comesBack reports whether this link's own subscriptions cover a topic.
func (l *Link) comesBack(topic string) bool {
	for _, f := range l.opts.Subscriptions {
		if matches(f, topic) {
			return true
		}
	}
	return false
}

func (l *Link) countOversize() {
	l.received.Add(1)
	l.oversize.Add(1)
}

// enqueue hands a message over to the Handler's goroutine, or drops it.
func (l *Link) enqueue(topic string, payload []byte) {
	l.received.Add(1)
	size := int64(len(topic) + len(payload))
	if l.queuedBytes.Add(size) > int64(l.opts.QueueBytes) {
		l.queuedBytes.Add(-size)
		l.dropped.Add(1)
		return
	}
	select {
	case l.queue <- delivery{topic, payload}:
	default:
		l.queuedBytes.Add(-size)
		l.dropped.Add(1)
	}
}

// deliver calls the Handler until ctx ends.
func (l *Link) deliver(ctx context.Context) {
	for {
		select {
		case d := <-l.queue:
			l.queuedBytes.Add(-int64(len(d.topic) + len(d.payload)))
			l.opts.Handler(d.topic, d.payload)
		case <-ctx.Done():
			return
		}
	}
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
