package cluster

import (
	"fmt"
	"slices"
	"testing"
)

func TestBrokerAwayAndBack(t *testing.T) {
	c := shared(t)
	stop(t, c, Broker)
	during := writeOnAll(t, c, "away")
	for _, at := range c.All() {
		holds(t, at, during)
	}
	must(t, c.Start(t.Context(), Broker))
	must(t, c.WaitHealthy(t.Context(), Broker))
	for _, from := range c.All() {
		seenOnBroker(t, c, from)
	}
	after := writeOnAll(t, c, "back")
	for _, at := range c.All() {
		holds(t, at, after)
	}
}

func TestBrokerStartedLast(t *testing.T) {
	c := shared(t)
	for _, service := range c.Services() {
		stop(t, c, service)
	}
	for i := range Nodes {
		must(t, c.Start(t.Context(), NodeName(i+1)))
	}
	for i := range Nodes {
		must(t, c.WaitHealthy(t.Context(), NodeName(i+1)))
	}
	before := writeOnAll(t, c, "brokerless")
	for _, at := range c.All() {
		holds(t, at, before)
	}
	must(t, c.Start(t.Context(), Broker))
	for _, from := range c.All() {
		seenOnBroker(t, c, from)
	}
}

func TestRestartedNodeHasEverythingAgain(t *testing.T) {
	c := shared(t)
	want := writeOnAll(t, c, "restart:before")
	for _, at := range c.All() {
		holds(t, at, want)
	}
	stop(t, c, NodeName(2))

	during := map[string]*string{}
	for i := range 200 {
		key, value := fmt.Sprintf("restart:during:%d", i), "written while node2 was stopped"
		write(t, c.Node(1+2*(i%2)), "OK", "SET "+key+" "+value)
		during[key] = &value
	}
	gone := "restart:before:" + NodeName(2) + ":0"
	write(t, c.Node(3), "DELETED", "DEL "+gone)
	want[gone] = nil
	for key, value := range during {
		want[key] = value
	}
	holds(t, c.Node(1), want)
	holds(t, c.Node(3), want)

	must(t, c.Start(t.Context(), NodeName(2)))
	must(t, c.WaitHealthy(t.Context(), NodeName(2)))
	holds(t, c.Node(2), want)
	sameSize(t, c)
}

func TestPausedNodeHoldsNobodyUp(t *testing.T) {
	c := shared(t)
	must(t, c.Pause(t.Context(), NodeName(3)))
	notices(t, c.Node(1), NodeName(3), false)
	want := map[string]*string{}
	for i := range 200 {
		key, value := fmt.Sprintf("paused:%d", i), "written while node3 slept"
		write(t, c.Node(1+i%2), "OK", "SET "+key+" "+value)
		want[key] = &value
	}
	holds(t, c.Node(1), want)
	holds(t, c.Node(2), want)
	must(t, c.Unpause(t.Context(), NodeName(3)))
	holds(t, c.Node(3), want)
	sameSize(t, c)
}

func TestNodeCutOffAndBack(t *testing.T) {
	c := shared(t)
	canDial(t, c, NodeName(1), NodeName(3), true)
	must(t, c.CutOff(t.Context(), NodeName(3)))
	canDial(t, c, NodeName(1), NodeName(3), false)
	canDial(t, c, NodeName(3), NodeName(1), false)
	// Open connections fall silent without an end; both sides have to find out.
	notices(t, c.Node(1), NodeName(3), false)
	notices(t, c.Node(3), NodeName(1), false)

	ours, theirs := "written among the many", "written on the one"
	write(t, c.Node(1), "OK", "SET cut:many "+ours, "SET cut:both "+ours)
	write(t, c.Node(3), "OK", "SET cut:one "+theirs, "SET cut:both "+theirs)
	holds(t, c.Node(2), map[string]*string{"cut:many": &ours, "cut:both": &ours, "cut:one": nil})
	holds(t, c.Node(3), map[string]*string{"cut:many": nil, "cut:both": &theirs, "cut:one": &theirs})

	must(t, c.Heal(t.Context(), NodeName(3)))
	canDial(t, c, NodeName(1), NodeName(3), true)
	notices(t, c.Node(1), NodeName(3), true)
	for _, at := range c.All() {
		holds(t, at, map[string]*string{"cut:many": &ours, "cut:one": &theirs})
	}
	agreeOn(t, c, "cut:both", ours, theirs)
	sameSize(t, c)
}

func TestStopEndsWithZero(t *testing.T) {
	c := shared(t)
	for _, service := range c.Services() {
		stop(t, c, service)
	}
}

// stop stops the service and fails the test unless it ended by itself, with 0.
func stop(t *testing.T, c *Cluster, service string) {
	t.Helper()
	code, err := c.Stop(t.Context(), service)
	must(t, err)
	if code != 0 {
		t.Fatalf("%s ended with exit code %d, want 0 (137 is a kill after the grace period)", service, code)
	}
}

// writeOnAll writes some keys on every node and returns what was written.
func writeOnAll(t *testing.T, c *Cluster, prefix string) map[string]*string {
	t.Helper()
	written := map[string]*string{}
	for _, n := range c.All() {
		for i := range 20 {
			key, value := fmt.Sprintf("%s:%s:%d", prefix, n.Name, i), prefix+" on "+n.Name
			write(t, n, "OK", "SET "+key+" "+value)
			written[key] = &value
		}
	}
	return written
}

// canDial waits until the one container can reach the other by its name, or cannot. The health
// command serves as the dialler: there is nothing else in the image.
func canDial(t *testing.T, c *Cluster, from, to string, want bool) {
	t.Helper()
	url := "http://" + to + ".cluster:9878/readyz"
	Eventually(t, fmt.Sprintf("%s can dial %s: %v", from, to, want), func() error {
		code, output, err := c.Exec(t.Context(), from, "/merklekv", "health", "--url", url)
		if err != nil {
			return err
		}
		if (code == 0) != want {
			return fmt.Errorf("health of %s from %s: exit code %d, %s", url, from, code, output)
		}
		return nil
	})
}

// notices waits until the node counts the peer among those that are there, or not any more.
func notices(t *testing.T, n Node, peer string, there bool) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%s sees %s: %v", n.Name, peer, there), func() error {
		lines, err := n.Reasons()
		if err != nil {
			return err
		}
		if slices.Contains(lines, "[+]peer "+peer+" ok") != there {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
}

// agreeOn waits until all nodes have the same value for key, which must be one of those given.
func agreeOn(t *testing.T, c *Cluster, key string, candidates ...string) {
	t.Helper()
	Eventually(t, "all nodes have the same "+key, func() error {
		first, err := c.Node(1).Do("GET " + key)
		if err != nil {
			return err
		}
		for _, n := range c.All() {
			if value, err := n.Do("GET " + key); err != nil || value != first {
				return fmt.Errorf("%s has %q, node1 has %q (%v)", n.Name, value, first, err)
			}
		}
		for _, candidate := range candidates {
			if first == candidate {
				return nil
			}
		}
		return fmt.Errorf("all have %q, which nobody wrote", first)
	})
}

// sameSize waits until all nodes count the same keys.
func sameSize(t *testing.T, c *Cluster) {
	t.Helper()
	Eventually(t, "all nodes count the same keys", func() error {
		first, err := c.Node(1).Do("DBSIZE")
		if err != nil {
			return err
		}
		for _, n := range c.All() {
			if size, err := n.Do("DBSIZE"); err != nil || size != first {
				return fmt.Errorf("%s counts %s, node1 counts %s (%v)", n.Name, size, first, err)
			}
		}
		return nil
	})
}
