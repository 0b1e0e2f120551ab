package mqttlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"
)

// Errors of Publish and of a Link's state.
var (
	// ErrDown is returned at once by Publish while the broker is not connected,
	// and when the session ends before the message is out.
	ErrDown = errors.New("broker is not connected")
	// ErrTooLarge is returned by Publish for a payload beyond Options.MaxPacket.
	ErrTooLarge = errors.New("message is larger than the greatest allowed packet")
	// ErrCredentials is the reason of a State when the broker refuses the user
	// name or the password.
	ErrCredentials = errors.New("broker refuses the user name or the password")
	// ErrSubscription is the reason of a State when the broker refuses a
	// subscription.
	ErrSubscription = errors.New("broker refuses a subscription")
	// ErrSilent is the reason of a State when the broker stopped talking.
	ErrSilent = errors.New("broker is silent")
	// ErrNoAck is the reason of a State when the broker stopped acknowledging.
	ErrNoAck = errors.New("broker acknowledges no message")
)

// Message is what is published when a session comes up, or by the broker when
// the connection is lost.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool
}

// State is whether a Link is up, and why it is not.
type State struct {
	Up     bool
	Reason error // why it is down; nil when up
	Since  time.Time
}

// Dialer opens a network connection, as net.Dialer.DialContext does.
type Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// Options configure a Link. Zero values mean the default that is given.
type Options struct {
	// BrokerURL is host:port, or a URL with the scheme tcp or mqtt (1883), ssl,
	// tls or mqtts (8883). Without scheme it is tcp.
	BrokerURL string
	// ClientID is the base of both client ids. Two links with the same one throw
	// each other off the broker for ever.
	ClientID           string
	Username, Password string
	TLS                *tls.Config // nil: the system's roots, TLS 1.2 and later

	// KeepAlive is the interval promised to the broker, in whole seconds from 1
	// to 65,535; 0 promises none.
	KeepAlive time.Duration
	// CleanSession true subscribes and publishes at QoS 0. False does both at QoS
	// 1, and the broker keeps messages while the subscriber is away, as many as
	// it likes to.
	CleanSession bool

	Subscriptions []string         // topic filters
	Will          func() Message   // of each session: published by the broker when -pub is lost; nil: none
	OnConnect     func() []Message // published first in every session

	// MaxPacket is the greatest payload in either direction, in bytes. A greater
	// one that arrives is dropped and counted, before memory is taken for it.
	MaxPacket int // 1 MiB

	// Handler is called for each message in the order of arrival, from one
	// goroutine. The payload is the handler's to keep.
	Handler func(topic string, payload []byte)
	// OnState is called on every change, from the goroutine of Run. It must not
	// block.
	OnState func(State)

	// QueueLen and QueueBytes bound what waits for the Handler. What does not fit
	// is dropped and counted.
	QueueLen   int // 4,096 messages
	QueueBytes int // 64 MiB

	// Silence is how long the broker may keep quiet after a message that comes
	// back by one of the Subscriptions; 0 never gives up.
	Silence time.Duration

	Window         int           // publishes in flight at most; 256
	ConnectTimeout time.Duration // for dialling, CONNECT and SUBSCRIBE each; 3 s
	WriteTimeout   time.Duration // for one packet to leave; 2 s
	AckTimeout     time.Duration // for a PUBACK; 5 s
	MinBackoff     time.Duration // before the first retry; 100 ms
	MaxBackoff     time.Duration // between retries; 5 s

	Dial   Dialer         // nil: a net.Dialer, which heeds no proxy variables
	Rand   func() float64 // in [0, 1), for jitter; nil: math/rand/v2
	Logger *slog.Logger   // nil: no log
}

// withDefaults returns o with its zero values filled in.
func (o Options) withDefaults() Options {
	setDefault(&o.MaxPacket, 1<<20)
	setDefault(&o.QueueLen, 4096)
	setDefault(&o.QueueBytes, 64<<20)
	setDefault(&o.Window, 256)
	setDefault(&o.ConnectTimeout, 3*time.Second)
	setDefault(&o.WriteTimeout, 2*time.Second)
	setDefault(&o.AckTimeout, 5*time.Second)
	setDefault(&o.MinBackoff, 100*time.Millisecond)
	setDefault(&o.MaxBackoff, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Handler == nil {
		o.Handler = func(string, []byte) {}
	}
	if o.OnState == nil {
		o.OnState = func(State) {}
	}
	if o.OnConnect == nil {
		o.OnConnect = func() []Message { return nil }
	}
	return o
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// maxWindow leaves most of MQTT's 65,535 packet ids unused.
const maxWindow = 16384

// validate returns everything that is wrong with o, which has its defaults.
func (o Options) validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.ClientID == "", "client id is empty")
	bad(len(o.ClientID) > 1024, "client id has %d bytes, at most 1024 are allowed", len(o.ClientID))
	bad(o.KeepAlive < 0 || o.KeepAlive > math.MaxUint16*time.Second || o.KeepAlive%time.Second != 0,
		"keep-alive %v is not a whole number of seconds from 0 to 65535", o.KeepAlive)
	bad(o.Silence < 0, "silence %v is negative", o.Silence)
	bad(o.MaxPacket < 0 || o.QueueLen < 0 || o.QueueBytes < 0, "packet and queue limits must not be negative")
	bad(o.Window < 0 || o.Window > maxWindow, "window %d is not from 1 to %d", o.Window, maxWindow)
	bad(o.ConnectTimeout < 0 || o.WriteTimeout < 0 || o.AckTimeout < 0, "timeouts must not be negative")
	bad(o.MinBackoff < 0 || o.MaxBackoff < o.MinBackoff,
		"back-off from %v to %v is no range", o.MinBackoff, o.MaxBackoff)
	bad(o.Will != nil && !validTopic(o.Will().Topic), "will: topic is empty or has a wildcard")
	for _, f := range o.Subscriptions {
		bad(!validFilter(f), "subscription %q is no topic filter", f)
	}
	return errors.Join(errs...)
}

// validTopic reports whether a message may be published to t.
func validTopic(t string) bool {
	return t != "" && len(t) <= math.MaxUint16 && !strings.ContainsAny(t, "+#\x00")
}

// validFilter reports whether f is a topic filter by MQTT 3.1.1, section 4.7.
func validFilter(f string) bool {
	if f == "" || len(f) > math.MaxUint16 || strings.ContainsRune(f, 0) {
		return false
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return false
		}
		if strings.Contains(l, "+") && l != "+" {
			return false
		}
	}
	return true
}

// matches reports whether a filter covers a topic.
func matches(filter, topic string) bool {
	for {
		f, restF, moreF := strings.Cut(filter, "/")
		t, restT, moreT := strings.Cut(topic, "/")
		if f == "#" {
			return true
		}
		if f != "+" && f != t {
			return false
		}
		if !moreT {
			return !moreF || restF == "#"
		}
		if !moreF {
			return false
		}
		filter, topic = restF, restT
	}
}
