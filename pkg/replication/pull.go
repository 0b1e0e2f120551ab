package replication

import (
	"context"
	"errors"
	"fmt"

	"merklekv/pkg/protocol"
)

// exchange dials an address, swaps heads, and pulls what the core asks for.
func (r *Replicator) exchange(ctx context.Context, addr string) error {
	p, err := r.Connect(ctx, addr)
	if err != nil {
		return err
	}
	defer p.Close()
	var pull *protocol.PeerPull
	err = r.do(ctx, func(c *Core) { pull = c.PullFrom(addr, p.peer.Instance) })
	if err != nil || pull == nil {
		return err
	}
	return r.pull(ctx, p, addr, p.peer.Instance, pull)
}

// Connect dials a peer at host:port, shakes hands, swaps heads with it and takes
// in what they tell. The caller closes the link; it is closed when ctx ends, too.
// A refusal by the peer is a *protocol.PeerError, and ErrSelf says that it is
// this node.
func (r *Replicator) Connect(ctx context.Context, addr string) (*Link, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := r.opts.Dial(dialCtx, "tcp", addr)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	p := newLink(ctx, conn, nil)
	if err := r.greet(ctx, p, addr); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// greet shakes hands as the dialler and swaps heads.
func (r *Replicator) greet(ctx context.Context, p *Link, addr string) error {
	other, err := p.dialHandshake(r.hello(), r.opts.Secret)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	var ours, relay []byte
	var unwanted error
	err = r.do(ctx, func(c *Core) {
		if unwanted = c.OnHello(addr, other); unwanted == nil {
			ours, relay = c.HeadNow(), c.Relay(other.Instance)
		}
	})
	if err = errors.Join(err, unwanted); err != nil {
		return err
	}
	if err := p.writeHeads(relay, ours); err != nil {
		return err
	}
	relayed, head, err := p.readHeads(other.Instance)
	if err != nil {
		return err
	}
	return r.do(ctx, func(c *Core) {
		c.OnRelay(relayed)
		c.OnHead(head, ViaTCP)
	})
}

// writeHeads sends the own head, after those of others if there are any.
func (p *Link) writeHeads(relay, head []byte) error {
	if len(relay) > 0 {
		if err := p.write(stepTimeout, protocol.FrameRelay, relay); err != nil {
			return err
		}
	}
	return p.write(stepTimeout, protocol.FrameHead, head)
}

// readHeads reads the head of an instance, and those of others before it.
func (p *Link) readHeads(instance uint64) (relayed []RelayedHead, h *Head, err error) {
	t, payload, err := p.read(stepTimeout, protocol.FrameRelay, protocol.FrameHead)
	if err == nil && t == protocol.FrameRelay {
		if relayed, err = DecodeRelay(payload); err == nil {
			_, payload, err = p.read(stepTimeout, protocol.FrameHead)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	h, err = headOf(payload, instance)
	return relayed, h, err
}

// headOf decodes the head of an instance.
func headOf(payload []byte, instance uint64) (*Head, error) {
	h, err := DecodeHead(payload)
	if err == nil && h.Instance != instance {
		err = fmt.Errorf("%w: head of another instance", ErrMalformed)
	}
	return h, err
}

// pull asks for changes and merges what comes, frame by frame.
func (r *Replicator) pull(ctx context.Context, p *Link, addr string, instance uint64, pull *protocol.PeerPull) (err error) {
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
