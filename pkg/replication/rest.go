package replication

import (
	"time"

	"merklekv/pkg/protocol"
)

const (
	restPatience = 5 * time.Second  // a difference in what heads leave out that may still pass
	restRetry    = 10 * time.Minute // between two pulls for such a difference at most
	lateRetry    = 5 * time.Minute  // between two full copies in which something is put off, at most
)

// Digest stands for a set of vector items, in whatever order they were added.
type Digest struct {
	_     struct{} `cbor:",toarray"`
	Count uint64
	Sum   uint64 // of a hash of each instance and sequence
}

// add puts the changes of an instance up to seq into the set.
func (d *Digest) add(instance, seq uint64) {
	d.Count++
	d.Sum += mix(mix(instance) ^ seq)
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// rest is how what a peer's heads leave out compares with what is here.
type rest struct {
	since   time.Duration // from when on they differ; never: they do not
	pair    [2]Digest     // what the last head leaves out, and what is here
	settled [2]Digest     // a pair that a pull has shown to lack nothing here
	next    time.Duration // no pull before
	dialed  time.Duration // when a dial was last started for it
	tries   int           // pulls since they were last equal
}

// compareRest takes in what a peer's new head leaves out.
func (c *Core) compareRest(p *peer) {
	theirs := p.head.Rest
	equal := theirs.Count == 0 // it leaves out nothing
	if !equal {
		with, without := c.unnamed(p.head.Vector)
		equal = theirs == with || theirs == without
		// Without the own instance: a pull brings none of its changes, and each new
		// one would look like a difference.
		p.rest.pair = [2]Digest{theirs, without}
	}
	switch {
	case equal:
		p.rest.since, p.rest.tries, p.rest.next = never, 0, 0
	case p.rest.since == never:
		p.rest.since = c.now
	}
}

// unnamed returns the digest of what is here of the instances that a vector does
// not name, with and without this one.
func (c *Core) unnamed(named []protocol.VectorItem) (with, without Digest) {
	for _, it := range vectorItems(c.vec) {
		for len(named) > 0 && named[0].Instance < it.Instance {
			named = named[1:]
		}
		if len(named) > 0 && named[0].Instance == it.Instance {
			continue
		}
		with.add(it.Instance, it.Seq)
		if it.Instance != c.set.Instance {
			without.add(it.Instance, it.Seq)
		}
	}
	return with, without
}

// restDue reports whether a peer is to be asked for all that is missing here,
// because its heads leave out what may be.
func (c *Core) restDue(p *peer) bool {
	r := &p.rest
	return r.since != never && c.now-r.since >= restPatience && c.now >= r.next && r.pair != r.settled
}

// planRest starts a dial for one difference that lasts.
func (c *Core) planRest() {
	if c.whole != "" {
		return
	}
	for _, p := range c.livePeers() {
		if !c.restDue(p) || c.now-p.rest.dialed < headEvery {
			continue
		}
		if e, _ := c.endpointOf(p); e != nil && c.dial(e) {
			p.rest.dialed = c.now // who answers there may be somebody else
			return
		}
	}
}

// restPulled takes in that a peer has sent all that was missing here, or, without
// done, that this failed. A copy in which something was put off settles nothing: it is
// asked for again when that is due. Nor does an answer that leaves something to a
// session: the peer's heads name that from now on.
func (c *Core) restPulled(p *peer, st *PullState, done *protocol.PeerDone) {
	r := &p.rest
	r.tries++
	r.next = c.now + c.backoff(4+r.tries, restRetry)
	if done == nil || done.Floor {
		return
	}
	if st.late {
		r.next = max(r.next, c.afterLate(st))
		return
	}
	if p.head != nil {
		_, without := c.unnamed(p.head.Vector)
		r.settled = [2]Digest{p.head.Rest, without}
	}
}

// afterLate returns when a copy in which something was put off may be asked for
// again: when that is due, but look again after a while.
func (c *Core) afterLate(st *PullState) time.Duration {
	millis := min(max(0, st.due-c.set.Millis()), lateRetry.Milliseconds())
	return c.now + time.Duration(millis)*time.Millisecond
}
