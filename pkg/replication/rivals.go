package replication

import (
	"errors"
	"fmt"
	"time"
)

// ErrDuplicateNodeID is returned by Run when another live node has the same
// node_id and started earlier.
var ErrDuplicateNodeID = errors.New("another node with the same node_id is running")

// maxRivals bounds the other instances of this node_id that are remembered.
const maxRivals = 64

// rival is another instance with this node's node_id: a dead predecessor, whose
// messages are still about, or a twin that runs.
type rival struct {
	instance uint64
	started  int64
	address  string
	presence uint64        // counter of its last presence that counted
	first    time.Duration // its first sighting; never: none
}

// leaving is a node that steps down for an older one of the same node_id.
type leaving struct {
	why   string
	since time.Duration
	done  bool
}

// rival returns the record of an instance, which it makes if there is room; else
// nil.
func (c *Core) rival(instance uint64, started int64, address string) *rival {
	r := c.rivals[instance]
	if r == nil {
		if len(c.rivals) >= maxRivals {
			return nil
		}
		r = &rival{instance: instance, first: never}
		c.rivals[instance] = r
	}
	r.started, r.address = started, address
	return r
}

// rivalPresence judges a presence, up or down, of another instance with this
// node_id. Twins share a client id too and throw each other off the broker, so
// that little more than their wills gets through; but those are made anew for
// each connection, which only a process that runs can do.
func (c *Core) rivalPresence(pr *Presence, counter uint64) {
	r := c.rival(pr.Instance, pr.Started, pr.Address)
	if r == nil || counter <= r.presence || !c.lately(pr.At) {
		return
	}
	r.presence = counter
	c.sighted(r)
}

// rivalHead judges a new head of another instance with this node_id.
func (c *Core) rivalHead(h *Head) {
	if r := c.rival(h.Instance, h.Started, h.Address); r != nil && c.lately(h.Wall) {
		c.sighted(r)
	}
}

// lately reports whether a message that says when it was made, in Unix
// milliseconds, was made well after this node's start. What a dead predecessor
// left behind was not, by whichever broker and however late it comes.
func (c *Core) lately(made int64) bool {
	return made >= c.set.Started+rivalAfter.Milliseconds()
}

// sighted takes in a message that another instance with this node_id seems to
// have made after this node's start. Two that are apart come from a process that
// runs, whatever the clocks say.
func (c *Core) sighted(r *rival) {
	if r.first == never {
		r.first = c.now
		return
	}
	if c.now-r.first >= rivalGap && c.now >= rivalAfter {
		c.rivalAlive(r)
	}
}

// rivalAlive takes in the proof that another node with this node_id runs. The
// one that started later steps down, of equal ones the greater instance.
func (c *Core) rivalAlive(r *rival) {
	later := c.set.Started > r.started || c.set.Started == r.started && c.set.Instance > r.instance
	if !later {
		c.once(fmt.Sprintf("rival %x", r.instance), "another node with this node_id started later and should stop",
			"node_id", c.set.NodeID, "address", r.address)
		return
	}
	if c.leaving != nil {
		return
	}
	c.leaving = &leaving{
		why:   fmt.Sprintf("node_id %q is in use at %s", c.set.NodeID, r.address),
		since: c.now,
	}
	c.log.Error("another node with this node_id runs, this one hands its entries over and stops",
		"node_id", c.set.NodeID, "address", r.address)
	c.emit(Action{Kind: ActReadOnly, Why: c.leaving.why})
	c.publishHead()
}

// leave ends a node that steps down, once some peer has all of its changes or
// has had long enough to fetch them.
func (c *Core) leave() {
	l := c.leaving
	if l == nil || l.done {
		return
	}
	own := c.vec.Prefix(c.set.Instance).Seq
	over := c.now-l.since >= handOver || own == 0
	for _, p := range c.livePeers() {
		over = over || p.known[c.set.Instance].Seq >= own
	}
	if over {
		l.done = true
		c.emit(Action{Kind: ActStop, Why: l.why})
	}
}
