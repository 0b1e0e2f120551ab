package node

import (
	"context"
	"fmt"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/journal"
	"merklekv/pkg/server"
)

// members returns the nodes of the cluster that are not forgotten.
func (n *Node) members() []antientropy.Member {
	return antientropy.Members(n.store.Entries(nil, nil))
}

// joinEvery is how often a node looks whether it is a member.
const joinEvery = 500 * time.Millisecond

// keepMembership writes this node's member entry once the node is ready, and
// again whenever somebody has forgotten a node that is alive.
func (n *Node) keepMembership(ctx context.Context) error {
	tick := time.NewTicker(joinEvery)
	defer tick.Stop()
	for {
		if ready, _ := n.replication.Ready(); ready && !n.isMember() {
			value := antientropy.EncodeMember(n.store.Instance(), n.advertised())
			if _, err := n.store.SetReserved(antientropy.MemberFacet(n.config.NodeID), value); err != nil {
				n.logger.Debug("cannot join the members now", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n *Node) isMember() bool {
	for _, m := range n.members() {
		if m.NodeID == n.config.NodeID {
			return m.Instance == n.store.Instance() && m.Address == n.advertised()
		}
	}
	return false
}

// neighbours adapts replication to what the client port asks about other nodes.
type neighbours struct{ *Node }

func (c neighbours) Replicating() (bool, int) {
	nodes := 1
	status := c.replication.Status()
	for i := range status.Peers {
		if status.Peers[i].Live && status.Peers[i].NodeID != c.config.NodeID {
			nodes++
		}
	}
	return c.replication.Enabled(), nodes
}

func (c neighbours) SetReplicating(on bool) { c.replication.SetEnabled(on) }

const forgetTimeout = 2 * time.Second // to tell replication, which is quick

func (c neighbours) Forget(nodeID string) (bool, journal.Ticket, error) {
	known, ticket, err := c.store.DeleteReserved(antientropy.MemberFacet(nodeID))
	if err != nil || !known {
		return known, ticket, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	if err := c.replication.Forget(ctx, nodeID); err != nil {
		c.logger.Warn("the forgotten node's addresses stay for a while", "node_id", nodeID, "err", err)
	}
	return true, ticket, nil
}

// Peers returns a record of every other node: those that were heard, and members
// that were not.
func (c neighbours) Peers() []server.Record {
	status := c.replication.Status()
	heard := make(map[string]bool)
	var out []server.Record
	for i := range status.Peers {
		p := &status.Peers[i]
		if p.NodeID == "" || p.NodeID == c.config.NodeID || !p.Live && replaced(p, status.Peers) {
			continue
		}
		heard[p.NodeID] = true
		rec := server.Record{{Name: "node_id", Value: p.NodeID}}
		add := func(name, format string, args ...any) {
			rec = append(rec, server.Field{Name: name, Value: fmt.Sprintf(format, args...)})
		}
		add("instance", "%016x", p.Instance)
		add("address", "%s", p.Address)
		add("live", "%t", p.Live)
		add("heard_ms", "%d", p.Heard.Milliseconds())
		add("mqtt", "%t", p.ByMQTT)
		add("lag_entries", "%d", p.LagEntries)
		add("lag_ms", "%d", p.LagMillis)
		if len(p.Epochs) > 0 {
			e := &p.Epochs[0]
			add("epoch", "%d", e.Epoch)
			add("root", "%s", shortRoot(e.Root))
			add("own_root", "%s", shortRoot(e.Own))
			add("same_vector", "%t", e.VectorsEqual)
		}
		out = append(out, rec)
	}
	for _, m := range c.members() {
		if m.NodeID != c.config.NodeID && !heard[m.NodeID] {
			out = append(out, server.Record{
				{Name: "node_id", Value: m.NodeID}, {Name: "instance", Value: fmt.Sprintf("%016x", m.Instance)},
				{Name: "address", Value: m.Address}, {Name: "live", Value: "false"},
			})
		}
	}
	return out
}

// shortRoot is enough of a root to compare two by eye; a hyphen where none is told.
func shortRoot(root []byte) string {
	if len(root) < 8 {
		return "-"
	}
	return fmt.Sprintf("%x", root[:8])
}
