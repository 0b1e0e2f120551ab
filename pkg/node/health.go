package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"merklekv/pkg/admin"
	"merklekv/pkg/replication"
)

// serving returns why this node does not serve data commands, nil if it does.
func (n *Node) serving() error {
	if ready, why := n.replication.Ready(); !ready {
		return errors.New(strings.Join(why, "; "))
	}
	return nil
}

// checks are the lines of /readyz: whether clients are served, and what an
// operator should know besides. A missing broker or peer degrades a node and
// does not stop it from serving.
func (n *Node) checks() []admin.Check {
	status := n.replication.Status()
	checks := []admin.Check{
		{Name: "replica", OK: status.Ready, Detail: strings.Join(status.Reasons, "; ")},
		n.memoryCheck(), n.clockCheck(),
	}
	for _, b := range status.Brokers {
		checks = append(checks, admin.Check{Name: "broker " + b.Address, OK: true, Degraded: !b.Up, Detail: b.Reason})
	}
	for i := range status.Peers {
		checks = append(checks, peerCheck(&status.Peers[i], status.Peers)...)
	}
	for _, a := range status.Failing {
		checks = append(checks, admin.Check{Name: "address " + a.Address, OK: true, Degraded: true, Detail: a.Reason})
	}
	for _, d := range status.Deferred {
		checks = append(checks, admin.Check{Name: "deferred", OK: true, Degraded: true, Detail: fmt.Sprintf(
			"change %d of instance %016x is from the future, due %s", d.Seq, d.Instance,
			time.UnixMilli(d.Due).UTC().Format(time.RFC3339))})
	}
	return checks
}

// nearlyFull is the fraction of the memory limit that is left when a node counts
// as full.
const nearlyFull = 64

func (n *Node) memoryCheck() admin.Check {
	st := n.store.Stats()
	c := admin.Check{Name: "memory", OK: true}
	// Clients' writes are refused at the limit, so they come near it and no further.
	if st.Limit > 0 && st.Used > st.Limit-st.Limit/nearlyFull {
		c.Degraded = true
		c.Detail = fmt.Sprintf("%d of %d bytes used: clients' writes that do not fit are refused, peers' are taken", st.Used, st.Limit)
	}
	return c
}

func (n *Node) clockCheck() admin.Check {
	c := admin.Check{Name: "clock", OK: true}
	if ahead := n.clock.Ahead(); ahead > 0 {
		c.Degraded = true
		c.Detail = fmt.Sprintf("writes are refused: the last stamp is %v ahead of the clock", time.Duration(ahead)*time.Millisecond)
	}
	return c
}

// peerCheck names a peer, and one that was heard before and is silent now.
// Instances that are gone for long, or that their node has replaced by starting
// again, are not news.
func peerCheck(p *replication.PeerStatus, all []replication.PeerStatus) []admin.Check {
	const news = 10 * time.Minute
	if p.NodeID == "" || !p.Live && (p.Heard > news || replaced(p, all)) {
		return nil
	}
	c := admin.Check{Name: "peer " + p.NodeID, OK: true}
	if !p.Live {
		c.Degraded, c.Detail = true, fmt.Sprintf("not heard for %v", p.Heard.Round(time.Second))
	}
	return []admin.Check{c}
}

// replaced reports whether another instance of the same node was heard later.
func replaced(p *replication.PeerStatus, all []replication.PeerStatus) bool {
	return slices.ContainsFunc(all, func(q replication.PeerStatus) bool {
		return q.NodeID == p.NodeID && q.Instance != p.Instance && q.Heard < p.Heard
	})
}
