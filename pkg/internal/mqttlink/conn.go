package mqttlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// brokerConn is a connection to a broker as the MQTT library sees it: reads are
// limited (see packetLimit), every write has a deadline, and whatever goes wrong
// is reported once, also where the library keeps it to itself.
type brokerConn struct {
	net.Conn
	limit        *packetLimit
	writeTimeout time.Duration
	onLost       func(error) // must not block

	established atomic.Bool // the handshake is over

	closeOnce sync.Once
	closeErr  error
}

// interrupt ends a handshake that is still going on.
func (c *brokerConn) interrupt() {
	if !c.established.Load() {
		_ = c.Close() // the handshake reports it
	}
}

// Read reads what the broker sent, at most one packet.
func (c *brokerConn) Read(p []byte) (int, error) {
	n, err := c.limit.Read(p)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

// Write sends p. After an error half a packet may be out, so nothing more can be
// sent and the connection is closed.
func (c *brokerConn) Write(p []byte) (int, error) {
	err := c.Conn.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	if err != nil {
		c.fail(err)
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

// SetDeadline bounds reads. The library sets it for the handshake; writes have
// their own deadline.
func (c *brokerConn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: the library sets deadlines for messages only,
// and takes away that of a ping when it does.
func (c *brokerConn) SetWriteDeadline(time.Time) error { return nil }

// Close closes the connection. Further calls return what the first one did.
func (c *brokerConn) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.Conn.Close() })
	return c.closeErr
}

func (c *brokerConn) fail(err error) {
	c.onLost(fmt.Errorf("connection is lost: %w", err))
	_ = c.Close() // the reason is err, which was reported
}

// open dials the broker. The host name is resolved anew each time, because a
// broker that was started again may have a new address.
func (l *Link) open(ctx context.Context, onLost func(error)) (*brokerConn, error) {
	conn, err := l.dial(ctx, "tcp", l.broker.Address())
	if err != nil {
		return nil, err // names the address
	}
	if l.broker.TLS {
		if conn, err = l.handshake(ctx, conn); err != nil {
			return nil, err
		}
	}
	return &brokerConn{
		Conn:         conn,
		limit:        newPacketLimit(conn, l.opts.MaxPacket, len(l.opts.Subscriptions), l.countOversize),
		writeTimeout: l.opts.WriteTimeout,
		onLost:       onLost,
	}, nil
}

// handshake turns a connection into one with TLS. It closes it on error.
func (l *Link) handshake(ctx context.Context, conn net.Conn) (net.Conn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.opts.TLS != nil {
		config = l.opts.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = l.broker.Host
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// defaultDial opens a TCP connection that gives up when the other end is gone,
// as far as the operating system can tell: a probe each third of silence, and on
// Linux a bound on how long sent bytes may stay unacknowledged.
func defaultDial(silence time.Duration) Dialer {
	d := net.Dialer{}
	if silence > 0 {
		probe := max(silence/3, time.Second)
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: probe, Interval: probe, Count: 3}
		d.Control = boundUnacknowledged(silence)
	}
	return d.DialContext
}
