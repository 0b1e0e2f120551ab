package replication

import (
	"errors"
	"fmt"
	"time"
)

// ErrSelf says that who answers at the address dialled is this node itself.
var ErrSelf = errors.New("this address is this node itself")

// judgeReady decides whether this node may serve: after its first pull, or, when
// it resumes, as soon as it has what its peers had; or when nobody is there to pull
// from. The latter does not stand for a pull.
func (c *Core) judgeReady() {
	if c.ready {
		return
	}
	switch {
	case c.pulled && !c.start.resumed:
	case c.caughtUp():
		c.start.caught = true
	case c.alone() && (c.echo || c.now >= startAlone):
	case c.unheeded():
		c.log.Warn("no peer sends what it has, serving what is here", "after", c.now.Round(time.Millisecond).String())
	default:
		return
	}
	c.ready = true
	c.log.Info("replication is ready", "peers", len(c.livePeers()))
}

// unheeded reports whether a first pull is not to be waited for any longer: no
// peer is there to answer, or those that are let it come to nothing. The pull is
// tried on, by whoever answers first. A node that resumes and was compared waits
// for progress only.
func (c *Core) unheeded() bool {
	if c.now >= startLimit && c.now-c.progress >= stalled {
		return true
	}
	return c.whole == "" && c.now-max(0, c.answered, c.progress) >= startPatience
}

// alone reports whether no other node is configured or was heard of.
func (c *Core) alone() bool {
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
func (c *Core) reasons() []string {
	var why []string
	if c.leaving != nil {
		why = append(why, c.leaving.why)
	}
	if c.ready {
		return why
	}
	switch {
	case c.start.compared:
		why = append(why, fmt.Sprintf("fetching what was missed, of %d origins", c.behind()))
	case c.whole != "":
		why = append(why, "first pull from "+c.whole+" is under way")
	case c.answered != never:
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
