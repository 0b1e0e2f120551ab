package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"merklekv/pkg/admin"
	"merklekv/pkg/antientropy"
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
	if !n.opened.Load() {
		return n.startChecks()
	}
	status := n.replication.Status()
	checks := []admin.Check{
		{Name: "replica", OK: status.Ready, Detail: strings.Join(status.Reasons, "; ")},
		n.memoryCheck(), n.clockCheck(), pausedCheck(status.Paused),
	}
	checks = append(checks, n.journalCheck()...)
	checks = append(checks, n.diskCheck()...)
	checks = append(checks, n.backupCheck()...)
	for _, b := range status.Brokers {
		checks = append(checks, admin.Check{Name: "broker " + b.Address, OK: true, Degraded: !b.Up, Detail: b.Reason})
	}
	for i := range status.Peers {
		checks = append(checks, n.peerCheck(&status.Peers[i], status.Peers)...)
	}
	checks = append(checks, n.silentMembers(&status)...)
	checks = append(checks, n.stuckChecks()...)
	for _, clone := range status.Clones {
		checks = append(checks, cloneCheck(n.config.Storage.DataDir, &clone))
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

// cloneCheck names a node that runs on the same data.
func cloneCheck(dir string, c *replication.Clone) admin.Check {
	return admin.Check{Name: "copy of " + c.NodeID, OK: true, Degraded: true, Detail: fmt.Sprintf(
		"%s at %s runs on a copy of %s, or this node on a copy of its data; stop the one with the copy and run "+
			"'merklekv data rename NODE_ID --yes' with its node_id there", c.NodeID, c.Address, dir)}
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

func pausedCheck(paused bool) admin.Check {
	c := admin.Check{Name: "replication", OK: true}
	if paused {
		c.Degraded, c.Detail = true, "changes are neither sent nor taken in; REPLICATE enable ends that"
	}
	return c
}

// peerCheck names a peer, one that was heard before and is silent now, and one
// that nothing can be compared with. Instances that are gone for long, or that
// their node has replaced by starting again, are not news.
func (n *Node) peerCheck(p *replication.PeerStatus, all []replication.PeerStatus) []admin.Check {
	const news = 10 * time.Minute
	if p.NodeID == "" || !p.Live && (p.Heard > news || replaced(p, all)) {
		return nil
	}
	c := admin.Check{Name: "peer " + p.NodeID, OK: true}
	switch {
	case !p.Live:
		c.Detail = fmt.Sprintf("not heard for %v", p.Heard.Round(time.Second))
	case p.Head != nil && !p.ParamsEqual:
		c.Detail = fmt.Sprintf("other parameters, so nothing is repaired between us: there %v, here %v", p.Head.Params, n.params())
	case p.Head != nil && p.Head.Paused:
		c.Detail = "it has paused replication; REPLICATE enable there ends that"
	}
	c.Degraded = c.Detail != ""
	return []admin.Check{c}
}

// silentMembers names the members that no line of a peer speaks of: whether all
// nodes are equal cannot be told without them.
func (n *Node) silentMembers(status *replication.Status) []admin.Check {
	var checks []admin.Check
	for _, m := range n.members() {
		spoken := slices.ContainsFunc(status.Peers, func(p replication.PeerStatus) bool {
			return p.NodeID == m.NodeID && len(n.peerCheck(&p, status.Peers)) > 0
		})
		if m.NodeID == n.config.NodeID || spoken {
			continue
		}
		checks = append(checks, admin.Check{Name: "member " + m.NodeID, OK: true, Degraded: true, Detail: fmt.Sprintf(
			"not heard at %s; FORGET %s takes it off the members if it is gone for good", m.Address, m.NodeID)})
	}
	return checks
}

// stuckChecks names the peers with which repair comes to nothing.
func (n *Node) stuckChecks() []admin.Check {
	var checks []admin.Check
	for _, s := range n.repair.Stuck() {
		checks = append(checks, stuckCheck(n.nodeIDOf(s.Instance), &s))
	}
	return checks
}

func stuckCheck(nodeID string, s *antientropy.Stuck) admin.Check {
	c := admin.Check{Name: "repair with " + nodeID, OK: true, Degraded: true}
	c.Detail = fmt.Sprintf("%d sessions in a row moved nothing and ended unequal", s.Sessions)
	if len(s.Keys) > 0 {
		c.Detail += "; keys " + strings.Join(escapedKeys(s.Keys), " ")
	}
	return c
}

// nodeIDOf returns who has an instance, or the instance if nobody is known to.
func (n *Node) nodeIDOf(instance uint64) string {
	status := n.replication.Status()
	for i := range status.Peers {
		if p := &status.Peers[i]; p.Instance == instance && p.NodeID != "" {
			return p.NodeID
		}
	}
	return instanceText(instance)
}

// replaced reports whether another instance of the same node was heard later.
func replaced(p *replication.PeerStatus, all []replication.PeerStatus) bool {
	return slices.ContainsFunc(all, func(q replication.PeerStatus) bool {
		return q.NodeID == p.NodeID && q.Instance != p.Instance && q.Heard < p.Heard
	})
}
