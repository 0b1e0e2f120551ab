package replication

import (
	"bytes"
	"context"
	"errors"
	"net"

	"merklekv/pkg/protocol"
)

// ServePeer speaks the peer protocol on a connection that a client upgraded,
// until the other end closes it, breaks the protocol, or ctx ends. rest is what
// was read after the upgrade. It closes the connection. ServePeer may be called
// before and after Run; then it only waits or returns.
func (r *Replicator) ServePeer(ctx context.Context, conn net.Conn, rest []byte) {
	p := newLink(ctx, conn, rest)
	defer p.Close()
	err := r.servePeer(ctx, p)
	var refusal *protocol.PeerError
	switch {
	case err == nil:
	case errors.Is(err, protocol.ErrFrameTooLong), errors.Is(err, protocol.ErrFrameType),
		errors.Is(err, protocol.ErrPeerMalformed), errors.Is(err, ErrMalformed), errors.As(err, &refusal):
		r.met.dropped.WithLabelValues("peer").Inc()
		r.quiet.warn(r.log, "peer refused", err, "remote", conn.RemoteAddr().String())
	default:
		r.log.Debug("peer link ended", "remote", conn.RemoteAddr().String(), "err", err)
	}
}

func (r *Replicator) servePeer(ctx context.Context, p *Link) error {
	other, err := p.acceptHandshake(r.hello(), r.opts.Secret)
	if err != nil {
		return err
	}
	for known := false; ; {
		t, payload, err := p.read(idleTimeout, protocol.FrameRelay, protocol.FrameHead, protocol.FramePull, protocol.FrameSync)
		if err != nil {
			return ignoreEOF(err)
		}
		if !known {
			known = true
			// The address tells nothing: it is where the dialler's port is.
			if err := r.do(ctx, func(c *Core) { err = c.OnHello("", other) }); err != nil {
				return err
			}
			if err != nil && !errors.Is(err, ErrSelf) {
				return err
			}
		}
		if err := r.serveFrame(ctx, p, t, payload); err != nil {
			return err
		}
	}
}

// serveFrame answers one request.
func (r *Replicator) serveFrame(ctx context.Context, p *Link, t protocol.FrameType, payload []byte) error {
	switch t {
	case protocol.FrameRelay:
		return r.serveRelay(ctx, p, payload)
	case protocol.FrameHead:
		return r.serveHead(ctx, p, payload)
	case protocol.FrameSync:
		return r.serveSync(ctx, p, payload)
	}
	if r.paused.Load() {
		return p.refuse(&protocol.PeerError{Code: protocol.PeerCodePaused, Message: "replication is paused here"})
	}
	return r.servePull(ctx, p, p.peer.NodeID, payload)
}

// serveRelay takes in heads of others.
func (r *Replicator) serveRelay(ctx context.Context, p *Link, payload []byte) error {
	relayed, err := DecodeRelay(payload)
	if err != nil {
		return p.refuse(err)
	}
	return r.do(ctx, func(c *Core) { c.OnRelay(relayed) })
}

// serveHead takes in a head and answers with the own one.
func (r *Replicator) serveHead(ctx context.Context, p *Link, payload []byte) error {
	h, err := headOf(payload, p.peer.Instance)
	if err != nil {
		return p.refuse(err)
	}
	var ours, relay []byte
	err = r.do(ctx, func(c *Core) {
		c.OnHead(h, ViaTCP)
		ours, relay = c.HeadNow(), c.Relay(h.Instance)
	})
	if err != nil {
		return err
	}
	return p.writeHeads(relay, ours)
}

// serveSync hands the link to who serves repair sessions.
func (r *Replicator) serveSync(ctx context.Context, p *Link, payload []byte) error {
	if r.opts.Session == nil {
		return p.refuse(&protocol.PeerError{Code: protocol.PeerCodeSync, Message: "repair sessions are not enabled here"})
	}
	return r.opts.Session(ctx, p, bytes.Clone(payload))
}

// servePull answers a pull of a node, or refuses it while too many are served.
func (r *Replicator) servePull(ctx context.Context, p *Link, node string, payload []byte) error {
	pull, err := protocol.DecodePull(payload)
	if err != nil {
		return p.refuse(err)
	}
	host := hostOf(p.conn.RemoteAddr())
	if refusal := r.serving.take(node, host); refusal != "" {
		busy := &protocol.PeerError{Code: protocol.PeerCodeBusy, Message: refusal}
		return p.write(stepTimeout, protocol.FrameError, protocol.EncodeCBOR(busy))
	}
	defer r.serving.leave(node, host)
	var mine []protocol.VectorItem
	err = r.do(ctx, func(c *Core) {
		mine = c.Serve(pull)
	})
	if err != nil {
		return err
	}
	pull.Repair = pull.Repair && r.opts.Repairs()
	pace := new(pullPace)
	s := NewAnswer(r.opts.Replica, mine, pull, func(payload ...[]byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return p.writePaced(pace, protocol.FrameEntries, payload...)
	})
	done, err := s.Run()
	if err != nil {
		return err
	}
	r.met.servedPull.Inc()
	return p.write(frameTimeout, protocol.FrameDone, protocol.EncodeCBOR(done))
}
