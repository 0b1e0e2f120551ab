package replication

import (
	"fmt"

	"merklekv/pkg/protocol"
)

// Via says by which way a head came.
type Via uint8

// The ways of a head.
const (
	ViaMQTT Via = iota // as a message on a broker
	ViaTCP             // as a frame on a link with its sender
)

// OnHead takes in a head. Those that are not newer than the last of their
// instance change nothing.
func (c *Core) OnHead(h *Head, way Via) {
	if h.Instance == c.set.Instance {
		c.echo = c.echo || way == ViaMQTT
		c.judgeReady()
		return
	}
	p := c.peer(h.Instance)
	if p == nil {
		c.met.dropped.WithLabelValues("peer").Inc()
		return
	}
	if h.Counter <= p.direct {
		return
	}
	c.met.headsIn.Inc()
	first := p.direct == 0
	p.direct, p.heard = h.Counter, c.now
	if way == ViaMQTT {
		p.heardMQTT = c.now
	} else {
		p.heardTCP = c.now
	}
	if h.Counter > p.counter { // else another node passed it on before
		p.noteHead(h, c.now)
	}
	p.down = false
	if first {
		c.aim(p)
	}
	c.supersede(p)
	c.rivalHead(h)
	if h.NodeID != c.set.NodeID && c.set.Report != nil {
		c.set.Report(h.NodeID, h.Wall)
	}
	if known := c.hosts[h.Address]; known != nil {
		known.answered = true
	}
	c.headTells(p)
	// A node's head follows its batches on the same connection, so what it has
	// beyond them is lost, not late.
	if w := c.wants[h.Instance]; w != nil && way == ViaMQTT {
		w.urgent = true
	}
	c.step()
	c.judgeSolo()
}

// supersede marks the earlier instances of a peer's node_id as gone.
func (c *Core) supersede(p *peer) {
	for _, q := range c.peers {
		if q.nodeID == p.nodeID && q.instance != p.instance && q.started < p.started && c.now-q.heard > headEvery {
			q.down = true
		}
	}
}

// OnPresence takes in a retained message of a node; counter is that of its
// sender's messages.
func (c *Core) OnPresence(pr *Presence, counter uint64) {
	if pr.Instance == c.set.Instance {
		return
	}
	if pr.NodeID == c.set.NodeID {
		// Who answers at its address may tell a twin from a dead predecessor,
		// unless that is this node's address as well.
		c.AddHost(pr.Address, false)
		c.rivalPresence(pr, counter)
	}
	defer c.judgeSolo()
	if !pr.Up {
		if p := c.peers[pr.Instance]; p != nil {
			p.down, p.presence = true, max(p.presence, counter)
			c.step()
		}
		return
	}
	if p := c.peer(pr.Instance); p != nil {
		if counter > p.presence { // not one that a broker kept from before
			p.down, p.presence = false, counter
		}
		p.nodeID, p.address, p.version, p.started = pr.NodeID, pr.Address, pr.Version, pr.Started
	}
	c.AddHost(pr.Address, false)
	c.step()
}

// OnHello takes in who is at the other end of a link. addr is where it was
// dialled, empty if it dialled. It returns an error if the link is of no use.
func (c *Core) OnHello(addr string, h *protocol.PeerHello) error {
	e := c.endpoints[addr]
	if h.Instance == c.set.Instance {
		if e != nil {
			e.instance, e.self = h.Instance, true
			c.answeredAt(addr)
		}
		return ErrSelf
	}
	if e != nil {
		e.instance, e.self = h.Instance, false
		c.answeredAt(addr)
	}
	if !c.start.compared {
		c.answered = c.now
	}
	defer c.judgeSolo()
	p := c.peer(h.Instance)
	if p == nil {
		return fmt.Errorf("too many peers: %d", len(c.peers))
	}
	p.nodeID, p.address, p.started, p.down = h.NodeID, h.Address, h.Started, false
	p.heard, p.heardTCP = c.now, c.now
	c.AddHost(h.Address, false)
	if id := (identity{h.NodeID, h.Instance, h.Started, h.Address, h.Volume}); c.isRival(id) {
		r := c.rival(id)
		if r == nil {
			r = &rival{identity: id} // no room, but there is no doubt either
		}
		c.rivalAlive(r)
	}
	return nil
}
