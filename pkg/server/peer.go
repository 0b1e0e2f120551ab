package server

import (
	"net"
	"sync/atomic"
	"time"
)

// becomePeer hands the connection to the peer protocol.
func (c *conn) becomePeer() {
	c.server.input.release(&c.input)
	c.server.becamePeer()
	c.mark(phasePeer, c.server.now())
	rest := c.session.rest()
	c.session.in, c.session.out = nil, nil
	c.heard.Store(len(rest) > 0)
	c.server.opts.Peer(c.server.peerCtx, &heardConn{c.net, &c.heard}, rest)
}

// heardConn notes whether anything was read.
type heardConn struct {
	net.Conn
	heard *atomic.Bool
}

func (h *heardConn) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 && !h.heard.Load() {
		h.heard.Store(true)
	}
	return n, err
}

// isSilent reports whether the connection said PEER a while ago and nothing
// since.
func (c *conn) isSilent(now time.Duration) bool {
	m := moment(c.moment.Load())
	return m.phase() == phasePeer && now-m.since() >= reserveTime && !c.heard.Load()
}
