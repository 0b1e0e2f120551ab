package cluster

import (
	"testing"

	"merklekv/test/nodes"
)

// newestSessions is the number of the newest repair session of each node, by name; 0 is none.
func (c *Cluster) newestSessions(t *testing.T) map[string]uint64 {
	t.Helper()
	newest := map[string]uint64{}
	for _, n := range c.All() {
		newest[n.Name] = 0
		if all := sessionsSince(t, n, 0); len(all) > 0 {
			newest[n.Name] = all[0].Number
		}
	}
	return newest
}

// sessionsSince are the sessions of a node after the one with a number, newest first.
func sessionsSince(t *testing.T, n Node, number uint64) []nodes.Session {
	t.Helper()
	all, err := n.Sessions()
	must(t, err)
	for i := range all {
		if all[i].Number <= number {
			return all[:i]
		}
	}
	return all
}

// movedWith is how many entries sessions between a node and any other moved after those with the
// numbers, each counted once.
func movedWith(t *testing.T, c *Cluster, name string, numbers map[string]uint64) int {
	t.Helper()
	moved := 0
	for _, n := range c.All() {
		for _, s := range sessionsSince(t, n, numbers[n.Name]) {
			if (n.Name == name || s.Peer == name) && !s.Served() {
				moved += s.Moved()
			}
		}
	}
	return moved
}
