package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// stock is how many keys a cluster holds before something happens to it.
	stock = 100_000
	// alone is how many keys each side of a cut writes.
	alone = 1_000
	// gone is how many of the stock each side of a cut deletes.
	gone = 50
	// slack is what repair may cost beyond the entries that differ, in bytes.
	slack = 400 << 10
)

// A cut after which no log reaches back to where it began: only comparing can tell what is missing.
// What the logs still have is fetched from them all the same, so the sessions alone are counted here.
func TestRepairBeyondTheLogs(t *testing.T) {
	c := secured.use(t)
	fill(t, c)
	cut := cutOff(t, c, 2)
	want := writeOnBothSides(t, cut, "beyond")
	overflowLogs(t, c)
	cut.healBySessions(t, want)
}

// A cut during which the nodes of the other side start again, one after the other. What they wrote is
// in no log any more, only in their data. Everything is counted here.
func TestRepairAfterAPartition(t *testing.T) {
	c := secured.use(t)
	fill(t, c)
	cut := cutOff(t, c, 2)
	want := writeOnBothSides(t, cut, "without")
	agree(t, c.Node(1), c.Node(3))
	for _, i := range []int{1, 3} {
		must(t, c.Kill(t.Context(), NodeName(i)))
		must(t, c.Start(t.Context(), NodeName(i)))
		must(t, c.WaitHealthy(t.Context(), NodeName(i)))
		agree(t, c.Node(1), c.Node(3))
		cut.before[NodeName(i)] = 0 // numbers begin anew
	}
	wire := cut.healBySessions(t, want)
	if full := payload(dump(t, c.Node(1))); wire > full/10 {
		t.Errorf("%d bytes on the wire, want at most a tenth of a full copy of %d", wire, full)
	}
}

// The same within the reach of the logs, in which either the logs or a session may serve.
func TestPartitionWithinTheLogs(t *testing.T) {
	c := secured.use(t)
	fill(t, c)
	cut := cutOff(t, c, 3)
	want := writeOnBothSides(t, cut, "logs")
	wire := cut.heal(t)
	cut.isHealed(t, want)
	if full := payload(dump(t, c.Node(1))); wire > full/10 {
		t.Errorf("%d bytes on the wire, want at most a tenth of a full copy of %d", wire, full)
	}
}

// A node whose disk is lost comes back with nothing, and nobody takes that for deletions.
func TestEmptyIsNotDeleted(t *testing.T) {
	c := secured.use(t)
	fill(t, c)
	before := dump(t, c.Node(1))
	must(t, c.Wipe(t.Context(), NodeName(2)))
	must(t, c.Start(t.Context(), NodeName(2)))
	began := time.Now()
	converged(t, c.All()...)
	t.Logf("equal %v after the start of the empty node", time.Since(began).Round(time.Millisecond))
	if after := same(t, c.All()...); !maps.Equal(before, after) {
		t.Errorf("%d keys after a node came back empty, %d before, and they are not the same", len(after), len(before))
	}
}

// What repairs without end would never be noticed in the data, only in its price.
func TestRepairsStopWhenWritesStop(t *testing.T) {
	c := secured.use(t)
	write(t, c.Node(1), "OK", "SET quiet:last write")
	converged(t, c.All()...)
	before := c.newestSessions(t)
	first, err := c.Node(1).Converged()
	must(t, err)
	const epochs = 5
	for _, n := range c.All() {
		Eventually(t, fmt.Sprintf("%s compares %d epochs more", n.Name, epochs), func() error {
			v, err := n.Converged()
			if err != nil || v.Epoch < first.Epoch+epochs {
				return fmt.Errorf("it says %q (%v)", v.Line, err)
			}
			return nil
		})
	}
	if after := c.newestSessions(t); !maps.Equal(before, after) {
		t.Errorf("newest sessions %v, before the quiet epochs %v", after, before)
	}
	converged(t, c.All()...)
}

// fill sees to it that the cluster holds the stock, equal on all nodes.
func fill(t *testing.T, c *Cluster) {
	t.Helper()
	requests := make([][]string, Nodes)
	for i := range stock {
		requests[i%Nodes] = append(requests[i%Nodes], fmt.Sprintf("SET %s %s", stockKey(i), stockValue(i)))
	}
	for i, n := range c.All() {
		write(t, n, "OK", requests[i]...)
	}
	converged(t, c.All()...)
}

func stockKey(i int) string { return fmt.Sprintf("user:%08d", i) }

// The stock is more than the 16 MiB of changes that a node keeps, so an empty node gets a copy that
// brings no log with it.
func stockValue(i int) string { return fmt.Sprintf("%0200d", i) }

// cut is a node that is away from the others.
type cut struct {
	cluster *Cluster
	node    Node
	other   Node
	before  map[string]uint64 // the newest session of each node when the cut began
}

// cutOff takes node i away and returns when both sides know.
func cutOff(t *testing.T, c *Cluster, i int) cut {
	t.Helper()
	x := cut{cluster: c, node: c.Node(i), other: c.Node(i%Nodes + 1), before: c.newestSessions(t)}
	must(t, c.CutOff(t.Context(), x.node.Name))
	canDial(t, c, x.other.Name, x.node.Name, false)
	canDial(t, c, x.node.Name, x.other.Name, false)
	notices(t, x.node, x.other.Name, false)
	notices(t, x.other, x.node.Name, false)
	for _, n := range c.All() {
		if reply := mustDo(t, n, "PING"); reply != "PONG" {
			t.Fatalf("PING on %s during the cut answered %q", n.Name, reply)
		}
	}
	return x
}

// overflowLogs writes more on every node than its log of recent changes keeps, 16 MiB, all under one
// key, so that little of it is left to move.
func overflowLogs(t *testing.T, c *Cluster) {
	t.Helper()
	large := strings.Repeat("0123456789", 100_000)
	for _, n := range c.All() {
		key := "churn:" + n.Name
		for range 20 {
			write(t, n, "OK", "SET "+key+" "+large)
		}
		write(t, n, "OK", "SET "+key+" small")
	}
}

// written is what may be there after a cut, by key: the values of which one must be there, none for a
// key that is deleted.
type written map[string][]string

// size is how many bytes keys and values have, where there are several the longest of them.
func (w written) size() int64 {
	var sum int64
	for key, values := range w {
		longest := 0
		for _, value := range values {
			longest = max(longest, len(value))
		}
		sum += int64(len(key) + longest)
	}
	return sum
}

// writeOnBothSides writes and deletes on both sides, some keys on one only and some on both. Of two
// values that are written within milliseconds the nodes may take either, but all the same one.
func writeOnBothSides(t *testing.T, x cut, prefix string) written {
	t.Helper()
	want := written{}
	for side, n := range []Node{x.node, x.other} {
		var sets, deletes []string
		for i := range alone {
			key := fmt.Sprintf("%s:%s:%d", prefix, n.Name, i)
			if i < alone/4 {
				key = stockKey(20_000 + i) // both sides
			}
			value := prefix + " on " + n.Name
			sets = append(sets, "SET "+key+" "+value)
			want[key] = append(want[key], value)
		}
		for i := range gone {
			key := stockKey(40_000 + 1_000*side + i)
			deletes = append(deletes, "DEL "+key)
			want[key] = nil
		}
		write(t, n, "OK", sets...)
		write(t, n, "DELETED", deletes...)
	}
	return want
}

// heal ends the cut and returns, when all nodes are equal, what went over the network interfaces of
// the node that was away since then, in bytes: clients, broker and peers, everything.
func (x *cut) heal(t *testing.T) int64 {
	t.Helper()
	before, err := x.cluster.Traffic(t.Context(), x.node.Name)
	must(t, err)
	must(t, x.cluster.Heal(t.Context(), x.node.Name))
	began := time.Now()
	converged(t, x.cluster.All()...)
	t.Logf("equal %v after healing", time.Since(began).Round(time.Millisecond))
	after, err := x.cluster.Traffic(t.Context(), x.node.Name)
	must(t, err)
	return after - before
}

// healBySessions is heal where only repair sessions can make the nodes equal. It checks that it was
// they who did, not before the cut was over, and what they cost.
func (x *cut) healBySessions(t *testing.T, want written) int64 {
	t.Helper()
	if moved := movedWith(t, x.cluster, x.node.Name, x.before); moved != 0 {
		t.Errorf("sessions with %s moved %d entries during the cut, want 0", x.node.Name, moved)
	}
	before := x.cluster.newestSessions(t)
	wire := x.heal(t)
	x.isHealed(t, want)
	if movedWith(t, x.cluster, x.node.Name, before) == 0 {
		t.Error("no session moved anything: it was not repair that made the nodes equal")
	}
	differing := want.size()
	for _, n := range x.cluster.All() {
		for _, s := range sessionsSince(t, n, before[n.Name]) {
			t.Logf("%s: %+v", n.Name, s)
			if s.Bytes() > differing+slack {
				t.Errorf("a session of %s took %d bytes for at most %d of entries", n.Name, s.Bytes(), differing)
			}
		}
	}
	t.Logf("on the wire: %d bytes, for %d of entries that differ", wire, differing)
	return wire
}

// isHealed checks that all nodes hold the same, read as a client does, and what was written.
func (x *cut) isHealed(t *testing.T, want written) {
	t.Helper()
	held := same(t, x.cluster.All()...)
	for key, values := range want {
		got, found := held[key]
		if found != (len(values) > 0) || found && !slices.Contains(values, got) {
			t.Errorf("%s is %q (there: %v), want one of %q", key, got, found, values)
		}
	}
}

// converged waits until all nodes say of themselves that all are equal, and checks that by what they
// hold at this moment.
func converged(t *testing.T, all ...Node) {
	t.Helper()
	Eventually(t, "all nodes are equal", func() error {
		for _, n := range all {
			v, err := n.Converged()
			if err != nil {
				return err
			}
			if !v.Equal {
				return fmt.Errorf("%s says %q", n.Name, v.Line)
			}
		}
		return nil
	})
	agree(t, all...)
}

// agree waits until nodes have the same root of what they hold at this moment.
func agree(t *testing.T, all ...Node) {
	t.Helper()
	Eventually(t, "two nodes have the same root", func() error {
		first, err := all[0].Do("HASH")
		if err != nil || strings.HasPrefix(first, "ERROR: ") {
			return fmt.Errorf("%s says %q (%v)", all[0].Name, first, err)
		}
		for _, n := range all[1:] {
			if root, err := n.Do("HASH"); err != nil || root != first {
				return fmt.Errorf("%s has root %s, %s has %s (%v)", n.Name, root, all[0].Name, first, err)
			}
		}
		return nil
	})
}

// same checks that the nodes hold the same keys and values, and returns them.
func same(t *testing.T, all ...Node) map[string]string {
	t.Helper()
	first := dump(t, all[0])
	for _, n := range all[1:] {
		if other := dump(t, n); !maps.Equal(first, other) {
			t.Errorf("%s holds %d keys, %s %d, and they are not the same", n.Name, len(other), all[0].Name, len(first))
		}
	}
	return first
}

func dump(t *testing.T, n Node) map[string]string {
	t.Helper()
	held, err := n.Dump()
	must(t, err)
	return held
}

// payload is how many bytes keys and values have.
func payload(held map[string]string) int64 {
	var sum int64
	for key, value := range held {
		sum += int64(len(key) + len(value))
	}
	return sum
}
