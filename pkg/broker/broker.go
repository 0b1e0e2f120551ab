package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// stopTimeout bounds Close. All of what it waits for ends when its connection is
// closed, so the bound is for what cannot happen.
const stopTimeout = 5 * time.Second

// Limits of what is kept for clients.
const (
	maxInflight   = 2048  // unacknowledged messages of one session
	maxPending    = 8192  // messages that wait to be written to one client
	sessionExpiry = 86400 // seconds that the session of an absent client lasts
	maxTopicBytes = 512   // beyond MaxPacket, for topic and header
	sysInterval   = 60    // seconds; each time the runtime stops the world
)

// ErrClosed is returned by Serve when the broker was closed before.
var ErrClosed = errors.New("broker is closed")

// Options configure a Broker. Zero values mean the default that is given.
type Options struct {
	// Address is where to listen, as host:port. Port 0 takes any free one.
	Address string
	// Prefix is the topic prefix of the cluster.
	Prefix string
	// Users are names with their passwords. Without any, anonymous clients may
	// use the prefix.
	Users map[string]string

	MaxPacket      int           // greatest payload in bytes; 1 MiB
	MaxClients     int           // connections at the same time; 1,024
	WriteTimeout   time.Duration // for what is written to a client; 500 ms
	ConnectTimeout time.Duration // from accept to the end of CONNECT; 5 s

	Logger *slog.Logger // nil: no log
}

func (o Options) withDefaults() Options {
	setDefault(&o.MaxPacket, 1<<20)
	setDefault(&o.MaxClients, 1024)
	setDefault(&o.WriteTimeout, 500*time.Millisecond)
	setDefault(&o.ConnectTimeout, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o Options) validate() error {
	var errs []error
	p := o.Prefix
	if p == "" || len(p) > 256 || strings.HasPrefix(p, "$") || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "+#\x00") {
		errs = append(errs, fmt.Errorf("topic prefix %q is no topic of 1 to 256 bytes without wildcards", p))
	}
	if o.MaxPacket < 0 || o.MaxPacket > 64<<20 {
		errs = append(errs, fmt.Errorf("greatest packet of %d bytes is not from 1 to 64 MiB", o.MaxPacket))
	}
	if o.MaxClients < 0 || o.WriteTimeout < 0 || o.ConnectTimeout < 0 {
		errs = append(errs, errors.New("limits must not be negative"))
	}
	for name := range o.Users {
		if name == "" {
			errs = append(errs, errors.New("a user without name"))
		}
	}
	return errors.Join(errs...)
}

// Broker is an MQTT broker. All methods may be called by several goroutines at
// once.
type Broker struct {
	log      *slog.Logger
	server   *mqtt.Server
	listener *listener
	guard    *guard
	serving  atomic.Bool

	closeOnce sync.Once
	closeErr  error
}

// New checks the options and binds the address. The broker serves nobody before
// Serve is called, and must be closed if Serve never is.
func New(o Options) (*Broker, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := o.Logger.With("component", "broker")
	ln, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b := &Broker{log: log, listener: newListener(ln, o, log), guard: newGuard(o, log)}
	b.server = mqtt.New(&mqtt.Options{
		Capabilities:           capabilities(o),
		Logger:                 slog.New(quiet{log.Handler()}),
		SysTopicResendInterval: sysInterval,
	})
	b.guard.topics = b.server.Topics
	b.guard.clients = b.server.Clients
	err = errors.Join(b.server.AddHook(b.guard, nil), b.server.AddListener(b.listener))
	if err != nil {
		return nil, fmt.Errorf("broker: %w", errors.Join(err, b.Close()))
	}
	return b, nil
}

func capabilities(o Options) *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClients = int64(o.MaxClients)
	c.MaximumPacketSize = uint32(o.MaxPacket + maxTopicBytes)
	c.MaximumMessageExpiryInterval = 0 // retained presence does not expire
	c.MaximumSessionExpiryInterval = sessionExpiry
	c.MaximumClientWritesPending = maxPending
	c.MaximumInflight = maxInflight
	c.MinimumProtocolVersion = 4
	// Aliases and shared subscriptions are names for topics that the guard would
	// have to see through.
	c.TopicAliasMaximum = 0
	c.SharedSubAvailable = 0
	return c
}

// Addr returns the address that the broker listens on, with its real port.
func (b *Broker) Addr() net.Addr { return b.listener.ln.Addr() }

// Serve serves clients until ctx ends, and returns nil when everything has
// stopped. It returns an error when the broker cannot be served or stopped, and
// ErrClosed after Close. It must be called once.
func (b *Broker) Serve(ctx context.Context) error {
	if b.serving.Swap(true) {
		return errors.New("broker: Serve was called before")
	}
	if b.listener.isClosed() {
		return ErrClosed
	}
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("broker: %w", errors.Join(err, b.Close()))
	}
	b.log.Info("broker is listening", "address", b.Addr().String())
	select {
	case <-ctx.Done():
		return b.Close()
	case <-b.listener.closed:
		return errors.Join(ErrClosed, b.Close())
	}
}

// Close stops listening, cuts all clients off and returns when everything has
// stopped. Further calls wait for the first and return what it did.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		b.listener.stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.listener.wait()
			_ = b.server.Close() // always nil
		}()
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-done:
			b.log.Info("broker has stopped")
		case <-timer.C:
			b.closeErr = fmt.Errorf("broker: not stopped within %v", stopTimeout)
		}
	})
	return b.closeErr
}

// SetUsers replaces the users. Clients whose user is gone or has another password
// are cut off.
func (b *Broker) SetUsers(users map[string]string) {
	b.guard.setUsers(users)
	for id, cl := range b.server.Clients.GetAll() {
		if !cl.Closed() && !b.guard.stillGranted(cl) {
			b.log.Info("client is cut off: its user has changed", "client", id)
			cl.Stop(errUserChanged)
		}
	}
}
