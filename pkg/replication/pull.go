package replication

import (
	"context"
	"errors"
	"fmt"
	"net"

	"merklekv/pkg/protocol"
)

// exchange dials an address, swaps heads, and pulls what the core asks for.
func (r *Replicator) exchange(ctx context.Context, addr string) error {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := r.opts.Dial(dialCtx, "tcp", addr)
	cancel()
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer closeWith(ctx, conn)()
	p := newPeerConn(conn, nil)
	other, err := p.dialHandshake(r.hello(), r.opts.Secret)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	var ours []byte
	var unwanted error
	err = r.do(ctx, func(c *Core) {
		if unwanted = c.OnHello(addr, other); unwanted == nil {
			ours = c.HeadNow()
		}
	})
	if err = errors.Join(err, unwanted); err != nil {
		return err
	}
	if err := p.write(stepTimeout, protocol.FrameHead, ours); err != nil {
		return err
	}
	head, err := p.readHead(other.Instance)
	if err != nil {
		return err
	}
	var pull *protocol.PeerPull
	err = r.do(ctx, func(c *Core) {
		c.OnHead(head, ViaTCP)
		pull = c.PullFrom(addr, other.Instance)
	})
	if err != nil || pull == nil {
		return err
	}
	return r.pull(ctx, p, addr, other.Instance, pull)
}

// readHead reads the head of an instance.
func (p *peerConn) readHead(instance uint64) (*Head, error) {
	_, payload, err := p.read(stepTimeout, protocol.FrameHead)
	if err != nil {
		return nil, err
	}
	h, err := DecodeHead(payload)
	if err != nil {
		return nil, err
	}
	if h.Instance != instance {
		return nil, fmt.Errorf("%w: head of another instance", ErrMalformed)
	}
	return h, nil
}

// pull asks for changes and merges what comes, frame by frame.
func (r *Replicator) pull(ctx context.Context, p *peerConn, addr string, instance uint64, pull *protocol.PeerPull) (err error) {
	defer func() {
		if err != nil {
			r.met.pulls.WithLabelValues(pullResult(err)).Inc()
		}
	}()
	if err := p.write(frameTimeout, protocol.FramePull, protocol.EncodeCBOR(pull)); err != nil {
		return err
	}
	st := new(PullState)
	for {
		t, payload, err := p.read(frameTimeout, protocol.FrameEntries, protocol.FrameDone)
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		if t == protocol.FrameDone {
			done, err := protocol.DecodeDone(payload)
			if err != nil {
				return fmt.Errorf("pull: %w", err)
			}
			return r.do(ctx, func(c *Core) { c.OnPullDone(addr, instance, st, done) })
		}
		changes, err := protocol.DecodeEntries(payload, 0, 0)
		if err == nil && len(changes) == 0 {
			err = fmt.Errorf("%w: frame without entries", protocol.ErrPeerMalformed)
		}
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		if err := r.do(ctx, func(c *Core) { c.OnEntries(st, changes) }); err != nil {
			return err
		}
	}
}

// pullResult returns the label under which a failed pull is counted.
func pullResult(err error) string {
	var refusal *protocol.PeerError
	if errors.As(err, &refusal) && refusal.Code == protocol.PeerCodeBusy {
		return "busy"
	}
	return "failed"
}

// ServePeer speaks the peer protocol on a connection that a client upgraded,
// until the other end closes it, breaks the protocol, or ctx ends. rest is what
// was read after the upgrade. It closes the connection. ServePeer may be called
// before and after Run; then it only waits or returns.
func (r *Replicator) ServePeer(ctx context.Context, conn net.Conn, rest []byte) {
	defer closeWith(ctx, conn)()
	err := r.servePeer(ctx, newPeerConn(conn, rest))
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

func (r *Replicator) servePeer(ctx context.Context, p *peerConn) error {
	other, err := p.acceptHandshake(r.hello(), r.opts.Secret)
	if err != nil {
		return err
	}
	for known := false; ; {
		t, payload, err := p.read(idleTimeout, protocol.FrameHead, protocol.FramePull)
		if err != nil {
			return ignoreEOF(err)
		}
		if !known {
			known = true
			// The address tells nothing: it is where the dialler's port is.
			if err := r.do(ctx, func(c *Core) { err = c.OnHello("", other) }); err != nil {
				return err
			}
			if err != nil && !errors.Is(err, errSelf) {
				return err
			}
		}
		if t == protocol.FrameHead {
			err = r.serveHead(ctx, p, other.Instance, payload)
		} else {
			err = r.servePull(ctx, p, other.NodeID, payload)
		}
		if err != nil {
			return err
		}
	}
}

// serveHead takes in a head and answers with the own one.
func (r *Replicator) serveHead(ctx context.Context, p *peerConn, instance uint64, payload []byte) error {
	h, err := DecodeHead(payload)
	if err == nil && h.Instance != instance {
		err = fmt.Errorf("%w: head of another instance", ErrMalformed)
	}
	if err != nil {
		return p.refuse(err)
	}
	var ours []byte
	err = r.do(ctx, func(c *Core) {
		c.OnHead(h, ViaTCP)
		ours = c.HeadNow()
	})
	if err != nil {
		return err
	}
	return p.write(stepTimeout, protocol.FrameHead, ours)
}

// servePull answers a pull of a node, or refuses it while too many are served.
func (r *Replicator) servePull(ctx context.Context, p *peerConn, node string, payload []byte) error {
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
		mine = c.Held()
	})
	if err != nil {
		return err
	}
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
