package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// A crash of all nodes at once, while clients write and delete on each of them: what was acknowledged
// is on the disks, since nobody is left to tell it.
func TestAllNodesKilledAtOnce(t *testing.T) {
	c := shared(t)
	const perSecond, enough = 2_000, 6_000
	deletes := stockOfDeletes(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load := startLoad(ctx, c, perSecond)
	for _, d := range deletes {
		load.done.Go(func() { d.run(ctx) })
	}
	Eventually(t, "the nodes are written to", func() error {
		if n := load.acknowledged(); n < enough {
			return fmt.Errorf("%d writes of %d are answered", n, enough)
		}
		return nil
	})
	must(t, load.refused())
	onAllNodes(t, func(service string) error { return c.Kill(t.Context(), service) })
	cancel()
	load.wait()

	began := time.Now()
	onAllNodes(t, func(service string) error { return c.Start(t.Context(), service) })
	must(t, c.WaitHealthy(t.Context(), c.Services()...))
	converged(t, c.All()...)
	t.Logf("%d writes acknowledged, equal %v after the start", load.acknowledged(), time.Since(began).Round(time.Millisecond))
	held := same(t, c.All()...)
	for key, value := range load.last {
		if number(held[key]) < number(value) {
			t.Errorf("%s is %q, the last write that was answered is %q", key, held[key], value)
		}
	}
	for _, d := range deletes {
		d.check(t, held)
	}
}

// onAllNodes does something to all nodes at the same time.
func onAllNodes(t *testing.T, do func(service string) error) {
	t.Helper()
	errs := make([]error, Nodes)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = do(NodeName(i + 1)) })
	}
	all.Wait()
	for _, err := range errs {
		must(t, err)
	}
}

// number is the one in a value that a load has written; no value is less than any.
func number(value string) int {
	n := -1
	_, _ = fmt.Sscanf(value, "write %d", &n)
	return n
}

// deletes deletes keys one after the other on one node.
type deletes struct {
	node Node
	keys []string
	done int // of the keys: their deletion was acknowledged
}

// stockOfDeletes writes keys, half of which are deleted at once and everywhere.
func stockOfDeletes(t *testing.T, c *Cluster) []*deletes {
	t.Helper()
	const count = 2_000
	var all []*deletes
	for _, n := range c.All() {
		d := &deletes{node: n, done: count / 2}
		var sets, dels []string
		for i := range count {
			d.keys = append(d.keys, fmt.Sprintf("doomed:%s:%d", n.Name, i))
			sets = append(sets, "SET "+d.keys[i]+" write 0")
			dels = append(dels, "DEL "+d.keys[i])
		}
		write(t, n, "OK", sets...)
		write(t, n, "DELETED", dels[:d.done]...)
		all = append(all, d)
	}
	converged(t, c.All()...)
	return all
}

// run deletes until a request fails: the node is gone then.
func (d *deletes) run(ctx context.Context) {
	for d.done < len(d.keys) && ctx.Err() == nil {
		if d.node.Write("DELETED", "DEL "+d.keys[d.done]) != nil {
			return
		}
		d.done++
	}
}

// check finds keys that came back, and such as are missing though nobody deleted them. One may be
// either: its deletion was not answered.
func (d *deletes) check(t *testing.T, held map[string]string) {
	t.Helper()
	for i, key := range d.keys {
		if _, there := held[key]; there != (i > d.done) && i != d.done {
			t.Errorf("%s: there %v, deleted %v", key, there, i < d.done)
		}
	}
	t.Logf("%s: %d of %d keys deleted", d.node.Name, d.done, len(d.keys))
}

// All nodes are stopped, one after the other, each right after a write: the last of them has it alone.
func TestLastWritesOutliveAStop(t *testing.T) {
	c := shared(t)
	want := map[string]*string{}
	for i := range Nodes {
		n := c.Node(i + 1)
		key, value := "stop:last:"+n.Name, "written "+time.Now().Format(time.RFC3339Nano)
		write(t, n, "OK", "SET "+key+" "+value)
		want[key] = &value
		began := time.Now()
		stop(t, c, n.Name)
		t.Logf("%s stopped within %v", n.Name, time.Since(began).Round(time.Millisecond))
	}
	onAllNodes(t, func(service string) error { return c.Start(t.Context(), service) })
	must(t, c.WaitHealthy(t.Context(), c.Services()...))
	converged(t, c.All()...)
	for _, n := range c.All() {
		holds(t, n, want)
	}
}

// A node serves what is on its disk when nobody else is there.
func TestNodeAloneHasItsData(t *testing.T) {
	c := shared(t)
	want := writeOnAll(t, c, "alone")
	converged(t, c.All()...)
	onAllNodes(t, func(service string) error { return c.Kill(t.Context(), service) })
	must(t, c.Start(t.Context(), NodeName(2)))
	must(t, c.WaitHealthy(t.Context(), NodeName(2)))
	holds(t, c.Node(2), want)
	for _, i := range []int{1, 3} {
		must(t, c.Start(t.Context(), NodeName(i)))
	}
	must(t, c.WaitHealthy(t.Context(), c.Services()...))
	converged(t, c.All()...)
}

// The data of a node are damaged beyond opening, its operator sets them aside, and it has everything
// again.
func TestReseededNodeHasEverything(t *testing.T) {
	c := shared(t)
	want := writeOnAll(t, c, "reseed")
	converged(t, c.All()...)
	before := dump(t, c.Node(1))
	stop(t, c, NodeName(3))
	code, said, err := c.RunOnce(t.Context(), NodeName(3), "data", "reseed", "--yes", "--config", "/etc/merklekv/docker.toml")
	if err != nil || code != 0 || !strings.Contains(said, "journal.damaged-") {
		t.Fatalf("reseed: exit code %d, %v: %s", code, err, said)
	}
	must(t, c.Start(t.Context(), NodeName(3)))
	must(t, c.WaitHealthy(t.Context(), NodeName(3)))
	holds(t, c.Node(3), want)
	converged(t, c.All()...)
	if after := same(t, c.All()...); len(after) != len(before) {
		t.Errorf("%d keys after a node was seeded again, %d before", len(after), len(before))
	}
}

// A node that is given the disk of another one says whose it is, and touches nothing.
func TestDiskOfAnotherNodeIsRefused(t *testing.T) {
	c := shared(t)
	write(t, c.Node(1), "OK", "SET mine:key value")
	stop(t, c, NodeName(1))
	code, said, err := c.RunOnce(t.Context(), NodeName(1), "--config", "/etc/merklekv/docker.toml", "--node-id", "stranger")
	must(t, err)
	if code != 2 || !strings.Contains(said, `belongs to node \"node1\"`) && !strings.Contains(said, `belongs to node "node1"`) {
		t.Errorf("a stranger on the disk of node1: exit code %d, %s", code, said)
	}
	must(t, c.Start(t.Context(), NodeName(1)))
	must(t, c.WaitHealthy(t.Context(), NodeName(1)))
	value := "value"
	holds(t, c.Node(1), map[string]*string{"mine:key": &value})
}
