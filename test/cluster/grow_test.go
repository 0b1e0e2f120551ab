package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestFurtherNodeJoinsAndIsForgotten(t *testing.T) {
	c := secured.use(t)
	fill(t, c)
	const name = "node4"
	node4, err := c.Add(t.Context(), name, map[string]string{
		"MERKLE_KV_NODE_ID":                   name,
		"MERKLE_KV_NETWORK_ADVERTISE_ADDRESS": name + ".cluster:7878",
		"MERKLE_KV_ANTI_ENTROPY_PEER_LIST":    NodeName(1) + ".cluster:7878", // the only one that it is told of
	})
	must(t, err)
	removed := false
	t.Cleanup(func() {
		if !removed {
			must(t, c.Remove(context.Background(), name))
		}
	})
	must(t, c.WaitHealthy(t.Context(), name))
	four := append(c.All(), node4)
	for _, n := range four {
		knows(t, n, four)
	}
	converged(t, four...)
	same(t, four...)
	write(t, node4, "OK", "SET joined:node4 written on the new one", "SET "+stockKey(0)+" by the new one")
	write(t, c.Node(3), "DELETED", "DEL "+stockKey(1))
	converged(t, four...)
	held := same(t, four...)
	if held[stockKey(0)] != "by the new one" || held[stockKey(1)] != "" {
		t.Errorf("%q and %q, want what node4 wrote and nothing", held[stockKey(0)], held[stockKey(1)])
	}

	// Stopped is not gone for good: the others say who is missing, until somebody says that it is.
	stop(t, c, name)
	for _, n := range c.All() {
		Eventually(t, n.Name+" misses the node that is stopped", func() error {
			v, err := n.Converged()
			if err != nil || !strings.HasPrefix(v.Line, "UNKNOWN ") || !slices.Contains(strings.Fields(v.Line), name) {
				return fmt.Errorf("it says %q (%v)", v.Line, err)
			}
			return nil
		})
	}
	write(t, c.Node(2), "OK", "FORGET "+name)
	converged(t, c.All()...)
	if after := same(t, c.All()...); len(after) != len(held) || after["joined:node4"] == "" {
		t.Errorf("%d keys after a node was forgotten, %d before; what it wrote is %q", len(after), len(held), after["joined:node4"])
	}
	must(t, c.Remove(t.Context(), name))
	removed = true
}

// knows waits until a node lists all the others as alive.
func knows(t *testing.T, n Node, all []Node) {
	t.Helper()
	Eventually(t, n.Name+" knows all others", func() error {
		lines, err := n.Report("PEERS")
		if err != nil {
			return err
		}
		for _, other := range all {
			alive := slices.ContainsFunc(lines, func(line string) bool {
				words := strings.Fields(line)
				return slices.Contains(words, "node_id="+other.Name) && slices.Contains(words, "live=true")
			})
			if !alive && other.Name != n.Name {
				return fmt.Errorf("%s is not among %q", other.Name, lines)
			}
		}
		return nil
	})
}
