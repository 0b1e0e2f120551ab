package broker

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// maxConnect is the greatest CONNECT, in bytes after its header. It is all that
// somebody who was not let in yet can make the broker hold.
const maxConnect = 64 << 10

var errNoConnect = errors.New("first packet is no CONNECT of at most 64 KiB")

// conn is a client's connection as Mochi sees it. Every write has a deadline, and
// the connection is closed when one fails. The first packet is looked at before
// Mochi takes memory for it:
//
//	CONNECT = 0x10 | length (1 to 4, base 128, low first) | rest (length)
type conn struct {
	net.Conn
	writeTimeout time.Duration
	granted      atomic.Pointer[digest] // of the password that it was let in with

	header    int  // bytes of the first packet's header that were read
	length    int  // of the first packet, as far as it was read
	connected bool // the first packet's header was read

	closeOnce sync.Once
	closeErr  error
}

// newConn wraps a connection that was just accepted. Mochi moves the deadline
// for reads once CONNECT is there.
func newConn(c net.Conn, o Options) *conn {
	_ = c.SetReadDeadline(time.Now().Add(o.ConnectTimeout)) // fails on closed connections only
	return &conn{Conn: c, writeTimeout: o.WriteTimeout}
}

// Read reads what the client sent. It is called by one goroutine.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for i := 0; i < n && !c.connected; i++ {
		if !c.inspect(p[i]) {
			return 0, errNoConnect
		}
	}
	return n, err
}

// inspect takes one byte of the first packet's header and reports whether it is
// still that of a CONNECT.
func (c *conn) inspect(b byte) bool {
	c.header++
	if c.header == 1 {
		return b == 0x10
	}
	c.length |= int(b&0x7f) << (7 * (c.header - 2))
	c.connected = b < 0x80
	return c.length <= maxConnect && (c.connected || c.header < 5)
}

// Write sends p, or closes the connection when it does not leave in time.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close() // err says what was wrong
	}
	return n, err
}

// SetDeadline bounds reads: Mochi means the keep-alive by it.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// Close closes the connection. Further calls return what the first one did.
func (c *conn) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.Conn.Close() })
	return c.closeErr
}
