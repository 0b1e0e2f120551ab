package mqttlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// quiesce is how long a client may take to say goodbye.
const quiesce = 250 * time.Millisecond

// errClosed is the cause of a session that its owner ended.
var errClosed = errors.New("session is closed")

// session is one life of both connections. The library's clients are never used
// again: their own reconnecting acknowledges messages that the broker never saw.
type session struct {
	link     *Link
	pub, sub *client
	window   chan struct{} // a token for each publish in flight
	start    time.Time

	ended    chan struct{} // closed by end
	announce chan struct{} // asks for the messages of OnConnect again

	// asked is when the oldest message went out that must come back and after
	// which nothing came in, as nanoseconds since start; 0 if there is none.
	asked atomic.Int64

	mu    sync.Mutex
	cause error // why the session ended
	done  bool  // no more abandoned publishes are waited for
	wg    sync.WaitGroup
}

func newSession(l *Link) *session {
	return &session{
		link: l, start: time.Now(),
		window:   make(chan struct{}, l.opts.Window),
		ended:    make(chan struct{}),
		announce: make(chan struct{}, 1),
	}
}

// end marks the session as lost. Only the first cause counts.
func (s *session) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = cause
		close(s.ended)
	}
}

func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// connect brings both connections up. On error nothing is left behind.
func (s *session) connect(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	o := &s.link.opts
	var will *Message
	if o.Will != nil {
		m := o.Will()
		will = &m
	}
	if s.pub, err = s.dial(ctx, "-pub", true, will); err != nil {
		return err
	}
	if s.sub, err = s.dial(ctx, "-sub", o.CleanSession, nil); err != nil {
		return err
	}
	if err := s.subscribe(ctx); err != nil {
		return err
	}
	return s.greet(ctx)
}

// greet publishes the messages of OnConnect.
func (s *session) greet(ctx context.Context) error {
	for _, m := range s.link.opts.OnConnect() {
		if err := s.publish(ctx, m); err != nil {
			return fmt.Errorf("publish to %s: %w", m.Topic, err)
		}
	}
	return nil
}

func (s *session) subscribe(ctx context.Context) error {
	o := &s.link.opts
	if len(o.Subscriptions) == 0 {
		return nil
	}
	filters := make(map[string]byte, len(o.Subscriptions))
	for _, f := range o.Subscriptions {
		filters[f] = s.link.qos
	}
	token := s.sub.mqtt.SubscribeMultiple(filters, nil)
	if err := s.await(ctx, token, o.ConnectTimeout); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	granted := token.(*mqtt.SubscribeToken).Result()
	for f := range filters {
		if qos, ok := granted[f]; !ok || qos > 2 {
			return fmt.Errorf("%w to %s: has the user the right to it?", ErrSubscription, f)
		}
	}
	return nil
}

// await waits for a token, but never longer than the session lasts: the library
// forgets tokens of lost connections.
func (s *session) await(ctx context.Context, token mqtt.Token, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ended:
		return s.reason()
	case <-timer.C:
		return fmt.Errorf("no answer within %v", timeout)
	}
}

// publish sends one message and returns when it is on its way (QoS 0) or
// acknowledged (QoS 1).
func (s *session) publish(ctx context.Context, m Message) error {
	token, err := s.begin(ctx, m)
	if err != nil {
		return err
	}
	return s.finish(ctx, token)
}

// begin hands one message to the library when there is room in the window.
// finish must be called for what it returns.
func (s *session) begin(ctx context.Context, m Message) (mqtt.Token, error) {
	select {
	case s.window <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.ended:
		return nil, ErrDown
	}
	if s.link.comesBack(m.Topic) {
		s.asked.CompareAndSwap(0, max(1, int64(time.Since(s.start))))
	}
	return s.pub.mqtt.Publish(m.Topic, s.link.qos, m.Retained, m.Payload), nil
}

// finish waits for what begin began, and makes room in the window.
func (s *session) finish(ctx context.Context, token mqtt.Token) error {
	timer := time.NewTimer(s.link.opts.AckTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		<-s.window
		return s.published(token.Error())
	case <-ctx.Done():
		s.abandon(token)
		return context.Cause(ctx)
	case <-s.ended:
		<-s.window
		return ErrDown
	case <-timer.C:
		<-s.window
		s.end(fmt.Errorf("%w within %v", ErrNoAck, s.link.opts.AckTimeout))
		return ErrDown
	}
}

// published turns the library's error into ours. A message that did not leave
// ends the session.
func (s *session) published(err error) error {
	if err == nil {
		s.link.published.Add(1)
		return nil
	}
	s.end(fmt.Errorf("publish: %w", err))
	return fmt.Errorf("%w: %w", ErrDown, err)
}

// abandon keeps the place in the window of a message whose publisher stopped
// waiting: its packet id is in use until the broker acknowledges it.
func (s *session) abandon(token mqtt.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return
	}
	s.wg.Go(func() {
		select {
		case <-token.Done():
			<-s.window
		case <-s.ended:
		}
	})
}

// watch returns when the session has ended, or ends it when ctx does.
func (s *session) watch(ctx context.Context) error {
	silence := s.link.opts.Silence
	var tick <-chan time.Time
	if silence > 0 {
		ticker := time.NewTicker(max(silence/8, 10*time.Millisecond))
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ended:
			return s.reason()
		case <-s.announce:
			if err := s.greet(ctx); err != nil && ctx.Err() == nil {
				s.end(err)
			}
		case <-tick:
			asked := s.asked.Load()
			if asked != 0 && time.Since(s.start)-time.Duration(asked) > silence {
				s.end(fmt.Errorf("%w for more than %v", ErrSilent, silence))
			}
		}
	}
}

// receive is called by the library for every message, and must not block.
func (s *session) receive(_ mqtt.Client, m mqtt.Message) {
	s.asked.Store(0)
	if m.Topic() == oversizeTopic {
		return
	}
	if s.link.ownWill(m.Topic(), m.Payload()) {
		select {
		case s.announce <- struct{}{}:
		default:
		}
	}
	s.link.enqueue(m.Topic(), m.Payload())
}

// close says goodbye on what is connected, so that no will is published, and
// returns when both connections are closed.
func (s *session) close() {
	s.end(errClosed)
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	var both sync.WaitGroup
	for _, c := range []*client{s.pub, s.sub} {
		if c != nil {
			both.Go(c.close)
		}
	}
	both.Wait()
	s.wg.Wait()
}

// client is one client of the library with its one connection.
type client struct {
	mqtt mqtt.Client
	conn *brokerConn
}

// close says goodbye if that is possible, and closes the connection.
func (c *client) close() {
	c.mqtt.Disconnect(uint(quiesce.Milliseconds()))
	_ = c.conn.Close() // nothing is to be saved
}

// dial connects one client. On error nothing is left behind.
func (s *session) dial(ctx context.Context, role string, clean bool, will *Message) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.link.opts.ConnectTimeout)
	defer cancel()
	var conn *brokerConn // these are written before the token is done
	var dialErr error
	o := s.clientOptions(role, clean, will)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		if conn, dialErr = s.link.open(ctx, s.end); dialErr != nil {
			return nil, dialErr
		}
		context.AfterFunc(ctx, conn.interrupt)
		if will != nil {
			s.link.rememberWill(*will)
		}
		return conn, nil
	})
	c := &client{mqtt: mqtt.NewClient(o)}
	token := c.mqtt.Connect().(*mqtt.ConnectToken)
	<-token.Done() // not later than ctx, which ends dialling and handshake
	if err := token.Error(); err != nil {
		if conn != nil {
			_ = conn.Close() // err says what was wrong
			return nil, s.refusal(token.ReturnCode(), err)
		}
		return nil, fmt.Errorf("dial %s: %w", s.link.broker.Address(), dialErr)
	}
	conn.established.Store(true)
	c.conn = conn
	return c, nil
}

// refusal says in plain words why a broker did not take the connection.
func (s *session) refusal(code byte, err error) error {
	switch code {
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised:
		return fmt.Errorf("%w (user %q)", ErrCredentials, s.link.opts.Username)
	}
	return fmt.Errorf("connect to %s: %w", s.link.broker.Address(), err)
}

func (s *session) clientOptions(role string, clean bool, will *Message) *mqtt.ClientOptions {
	l := s.link
	o := mqtt.NewClientOptions().
		AddBroker("tcp://" + l.broker.Address()).
		SetClientID(l.opts.ClientID + role).
		SetUsername(l.opts.Username).
		SetPassword(l.opts.Password).
		SetProtocolVersion(4). // else it falls back to 3.1 without a word
		SetCleanSession(clean).
		SetKeepAlive(l.opts.KeepAlive).
		SetPingTimeout(l.opts.AckTimeout).
		SetConnectTimeout(l.opts.ConnectTimeout).
		SetWriteTimeout(l.opts.WriteTimeout).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(true).
		SetDefaultPublishHandler(s.receive).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.end(err) })
	if will != nil {
		o.SetBinaryWill(will.Topic, will.Payload, l.qos, will.Retained)
	}
	return o
}
