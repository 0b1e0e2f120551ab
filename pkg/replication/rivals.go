package replication

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrDuplicateNodeID is returned by Run when another live node has the same
// node_id and started earlier.
var ErrDuplicateNodeID = errors.New("another node with the same node_id is running")

// maxRivals bounds the other instances of this node_id or volume that are remembered.
const maxRivals = 64

// rival is another instance with this node's node_id, or with its volume: a dead
// predecessor, whose messages are still about, or a twin that runs.
type rival struct {
	identity
	clone    bool          // it runs, under another node_id
	presence uint64        // counter of its last presence that counted
	first    time.Duration // its first sighting; never: none
}

// identity is what a message says of its sender.
type identity struct {
	nodeID   string
	instance uint64
	started  int64
	address  string
	volume   uint64
}

// isRival reports whether an instance has what no two live ones may have in common.
func (c *Core) isRival(id identity) bool { return id.nodeID == c.set.NodeID || c.sharesVolume(id) }

// sharesVolume reports whether an instance has, or had, this node's data.
func (c *Core) sharesVolume(id identity) bool { return id.volume != 0 && id.volume == c.set.Volume }

// leaving is a node that steps down for an older one of the same node_id.
type leaving struct {
	why   string
	since time.Duration
	done  bool
}

// rival returns the record of an instance, which it makes if there is room; else
// nil.
func (c *Core) rival(id identity) *rival {
	r := c.rivals[id.instance]
	if r == nil {
		if len(c.rivals) >= maxRivals {
			return nil
		}
		r = &rival{first: never}
		c.rivals[id.instance] = r
	}
	r.identity = id
	return r
}

// rivalPresence judges a presence, up or down, of another instance with this
// node_id. Twins share a client id too and throw each other off the broker, so
// that little more than their wills gets through; but those are made anew for
// each connection, which only a process that runs can do.
func (c *Core) rivalPresence(pr *Presence, counter uint64) {
	r := c.rival(identity{pr.NodeID, pr.Instance, pr.Started, pr.Address, pr.Volume})
	if r == nil || counter <= r.presence || !c.lately(pr.At) {
		return
	}
	r.presence = counter
	c.sighted(r)
}

// rivalHead judges a new head of another instance, which may have this node_id or
// volume.
func (c *Core) rivalHead(h *Head) {
	id := identity{h.NodeID, h.Instance, h.Started, h.Address, h.Volume}
	if !c.isRival(id) {
		return
	}
	if r := c.rival(id); r != nil && c.lately(h.Wall) {
		c.sighted(r)
	}
}

// lately reports whether a message that says when it was made, in Unix
// milliseconds, was made well after this node's start. What a dead predecessor
// left behind was not, by whichever broker and however late it comes.
func (c *Core) lately(made int64) bool {
	return made >= c.set.Started+rivalAfter.Milliseconds()
}

// sighted takes in a message that another instance with this node_id or volume seems to
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
	if r.nodeID != c.set.NodeID {
		c.cloneAlive(r)
		return
	}
	later := c.set.Started > r.started || c.set.Started == r.started && c.set.Instance > r.instance
	if !later {
		c.once(fmt.Sprintf("rival %x", r.instance), "another node with this node_id started later and should stop",
			"node_id", c.set.NodeID, "address", r.address, "same_volume", c.sharesVolume(r.identity))
		return
	}
	if c.leaving != nil {
		return
	}
	why := fmt.Sprintf("node_id %q is in use at %s", c.set.NodeID, r.address)
	if c.sharesVolume(r.identity) {
		why += ", by a node that has the same data: this one runs on a copy of its volume; " + cloneRemedy
	}
	c.leaving = &leaving{why: why, since: c.now}
	c.log.Error("another node with this node_id runs, this one hands its entries over and stops",
		"node_id", c.set.NodeID, "address", r.address)
	c.emit(Action{Kind: ActReadOnly, Why: c.leaving.why})
	c.publishHead()
}

// cloneRemedy is what an operator does about a copied volume.
const cloneRemedy = "with the copy's node stopped, `merklekv data rename NODE_ID --yes` makes the copy a data directory of its own"

// cloneAlive takes in the proof that a node runs, under another node_id, on a copy
// of this node's volume, or this node on a copy of its. Which one is the copy, nobody
// can tell; both go on, since each has its own instance.
func (c *Core) cloneAlive(r *rival) {
	if r.clone {
		return
	}
	r.clone = true
	key := fmt.Sprintf("clone %x", r.instance)
	if c.told[key] {
		return
	}
	c.told[key] = len(c.told) < maxPeers
	c.log.Error("another node runs on a copy of this node's volume, or this one on a copy of its", "node_id", r.nodeID,
		"instance", fmt.Sprintf("%016x", r.instance), "address", r.address, "remedy", cloneRemedy)
}

// clones returns the live nodes that share this node's volume, by instance.
func (c *Core) clones() []Clone {
	var list []Clone
	for _, id := range slices.Sorted(maps.Keys(c.rivals)) {
		if r, p := c.rivals[id], c.peers[id]; r.clone && p != nil && c.live(p) {
			list = append(list, Clone{NodeID: r.nodeID, Instance: r.instance, Address: r.address})
		}
	}
	return list
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
