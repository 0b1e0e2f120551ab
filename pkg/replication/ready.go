package replication

import (
	"errors"
	"fmt"
	"time"
)

// ErrDuplicateNodeID is returned by Run when another live node has the same
// node_id and started earlier.
var ErrDuplicateNodeID = errors.New("another node with the same node_id is running")

// errSelf says that the address dialled is this node's own.
var errSelf = errors.New("this address is this node itself")

// judgeReady decides whether this node has what its peers have: after its first
// pull, or when nobody is there to pull from.
func (c *core) judgeReady() {
	if c.ready {
		return
	}
	switch {
	case c.pulled:
	case c.alone() && (c.echo || c.now >= startAlone):
		c.pulled = true
	case !c.answered && c.now >= startPatience:
		c.pulled = true
		c.log.Warn("no peer answers, serving what is here", "after", startPatience)
	default:
		return
	}
	c.ready = true
	c.log.Info("replication is ready", "peers", len(c.livePeers()))
}

// alone reports whether no other node is configured or was heard of.
func (c *core) alone() bool {
	for _, h := range c.hosts {
		if h.resolving || len(h.addrs) == 0 {
			return false
		}
	}
	for _, e := range c.endpoints {
		if !e.self {
			return false
		}
	}
	for _, p := range c.peers {
		if c.live(p) {
			return false
		}
	}
	return true
}

// reasons says why this node is not ready.
func (c *core) reasons() []string {
	var why []string
	if c.leaving != nil {
		why = append(why, c.leaving.why)
	}
	if c.ready {
		return why
	}
	switch {
	case c.firstPull != "":
		why = append(why, "first pull from "+c.firstPull+" is under way")
	case c.answered:
		why = append(why, "no pull has succeeded yet")
	default:
		why = append(why, "waiting for a peer to answer")
	}
	for _, e := range c.endpointsByAddr() {
		if e.err != "" && !e.self {
			why = append(why, e.addr+": "+e.err)
		}
	}
	return why
}

// leaving is a node that steps down for an older one of the same node_id.
type leaving struct {
	why   string
	since time.Duration
	done  bool
}

// suspectRival judges a head of another instance with this node_id. Heads that
// arrive soon after the start, or all at once, may be old ones that were still
// on their way; two that are apart in time and counter, the second of them later
// than that, come from a process that runs.
func (c *core) suspectRival(p *peer) {
	if p.first == never {
		p.first = c.now
		return
	}
	if c.now-p.first >= rivalGap && c.now >= rivalAfter {
		c.rivalAlive(p)
	}
}

// rivalAlive takes in the proof that another node with this node_id runs. The
// one that started later steps down, of equal ones the greater instance.
func (c *core) rivalAlive(p *peer) {
	later := c.set.Started > p.started || c.set.Started == p.started && c.set.Instance > p.instance
	if !later {
		c.once(fmt.Sprintf("rival %x", p.instance), "another node with this node_id started later and should stop",
			"node_id", p.nodeID, "address", p.address)
		return
	}
	if c.leaving != nil {
		return
	}
	c.leaving = &leaving{
		why:   fmt.Sprintf("node_id %q is in use at %s", c.set.NodeID, p.address),
		since: c.now,
	}
	c.log.Error("another node with this node_id runs, this one hands its entries over and stops",
		"node_id", c.set.NodeID, "address", p.address)
	c.emit(action{kind: actReadOnly, why: c.leaving.why})
	c.publishHead()
}

// leave ends a node that steps down, once some peer has all of its changes or
// has had long enough to fetch them.
func (c *core) leave() {
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
		c.emit(action{kind: actStop, why: l.why})
	}
}
