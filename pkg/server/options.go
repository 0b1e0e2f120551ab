package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/kv"
)

// Defaults of Options and Limits.
const (
	DefaultMaxRequestBytes   = 1 << 20
	DefaultMaxConnections    = 1000
	DefaultConnectionTimeout = 30 * time.Second
)

// MaxRequestBytes is the greatest request that can be configured: SET with the
// longest key and the longest value, and some room.
const MaxRequestBytes = kv.MaxValueLen + 64<<10

// peerSlots is how many connections beyond the clients' limit are kept for
// peers, so that a flood of clients does not stop repair.
const peerSlots = 8

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("server is closed")

// Limits are what can change while the server runs.
type Limits struct {
	// MaxConnections is how many clients may be connected at once; 0 means
	// DefaultMaxConnections. Eight more connections are kept for peers.
	MaxConnections int
	// ConnectionTimeout bounds the time from the first byte of a request to its
	// end, and the time that a write to the client may be stuck; 0 means
	// DefaultConnectionTimeout. It is looked at once a second.
	ConnectionTimeout time.Duration
	// IdleTimeout closes a client that asks nothing for so long; 0 means never.
	IdleTimeout time.Duration
}

// Options say what a server listens to and what it serves.
type Options struct {
	// Address is where to listen, as host:port; port 0 takes a free one.
	Address string
	Limits  Limits
	// MaxRequestBytes is the longest request line, without its end; 0 means
	// DefaultMaxRequestBytes. Long ones take 64 MiB, or four times the limit,
	// in all connections together, and one more of them at most.
	MaxRequestBytes int
	// Version is the program's, as VERSION shows it.
	Version string
	// Store is what the commands act on.
	Store Store
	// Repair and Cluster serve the commands about other nodes; where one is nil,
	// its commands are not authorized.
	Repair  Repair
	Cluster Cluster

	// Ready returns why data commands are not served, nil if they are. It is
	// called once for a batch of requests and must be quick. A nil Ready means
	// always ready.
	Ready func() error
	// Info returns what INFO shows beside the server's own sections. It may be
	// nil.
	Info func() []Section
	// Shutdown makes the node stop and returns at once. Where it is nil,
	// SHUTDOWN is not authorized.
	Shutdown func()
	// Peer serves a connection that said PEER; it was answered OK. rest is what
	// the client sent behind the request's line, to be read before the
	// connection. ctx ends when the server closes, which also closes the
	// connection. Peer owns the connection until it returns; then the server
	// closes it. Where it is nil, PEER is not authorized.
	Peer func(ctx context.Context, conn net.Conn, rest []byte)

	// Registerer takes the server's metrics; nil means none does.
	Registerer prometheus.Registerer
	// Logger takes what operators should know; nil discards it.
	Logger *slog.Logger
}

// Section is a part of the answer to INFO.
type Section struct {
	Name   string // lower case, one word
	Fields []Field
}

// Field is one line of INFO or STATS, or one word of a Record.
type Field struct {
	Name  string // lower case, no colon and no equals sign
	Value string
}

// withDefaults returns o completed, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	if o.Store == nil {
		return o, errors.New("server needs a store")
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.MaxRequestBytes < kv.MaxKeyLen || o.MaxRequestBytes > MaxRequestBytes {
		return o, fmt.Errorf("request limit of %d bytes is not between %d and %d",
			o.MaxRequestBytes, kv.MaxKeyLen, MaxRequestBytes)
	}
	if err := o.Limits.check(); err != nil {
		return o, err
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Info == nil {
		o.Info = func() []Section { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "server")
	return o, nil
}

func (l Limits) check() error {
	if l.MaxConnections < 0 || l.ConnectionTimeout < 0 || l.IdleTimeout < 0 {
		return fmt.Errorf("negative limit: %d connections, timeouts %v and %v",
			l.MaxConnections, l.ConnectionTimeout, l.IdleTimeout)
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	if l.MaxConnections == 0 {
		l.MaxConnections = DefaultMaxConnections
	}
	if l.ConnectionTimeout == 0 {
		l.ConnectionTimeout = DefaultConnectionTimeout
	}
	return l
}
