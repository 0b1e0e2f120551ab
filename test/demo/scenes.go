package main

import (
	"context"
	"fmt"
	"time"

	"merklekv/test/nodes"
)

const (
	stock = 100_000 // keys before the cut
	alone = 1_000   // keys that each side of the cut writes
	both  = 250     // of them, those that both sides write
	gone  = 50      // keys that each side deletes

	// valueBytes is the size of a value: large enough for the stock to be more than the 16 MiB of
	// changes that a node keeps for those that missed them.
	valueBytes = 200

	// eventually bounds every wait.
	eventually = 30 * time.Second
	// pollInterval is how often a condition is looked at.
	pollInterval = 10 * time.Millisecond
)

// demo is the running demo: its scenes follow one another.
type demo struct {
	ctx   context.Context
	stage *stage
	out   *transcript

	seen uint64            // number of the newest session that node2 remembers before it comes back
	held map[string]string // all that node1 holds in the end
}

func (d *demo) start() error {
	d.out.say("starting three nodes and a broker (Compose project %s)", project)
	if err := d.stage.up(d.ctx); err != nil {
		return err
	}
	for i := range nodes.Count {
		n := d.stage.node(i + 1)
		d.out.note("%s  clients %s  health and metrics %s", n.Name, n.Address, n.AdminBase)
	}
	return nil
}

func (d *demo) writeAndRead() error {
	d.out.say("a write on one node is read on another")
	first, third := d.stage.node(1), d.stage.node(3)
	const request, value = `SET user:alice "Alice Johnson"`, `"Alice Johnson"`
	began := time.Now()
	if err := first.Write("OK", request); err != nil {
		return err
	}
	d.out.asked(first.Name, request, "OK")
	if err := d.until("node3 has the value", func() error { return answers(third, "GET user:alice", value) }); err != nil {
		return err
	}
	took := time.Since(began)
	d.out.asked(third.Name, "GET user:alice", value)
	d.out.note("%.1f ms from the request on node1 to the answer of node3", float64(took.Microseconds())/1000)
	return nil
}

func (d *demo) load() error {
	d.out.say("%s keys, a third of them written on each node", grouped(stock))
	began := time.Now()
	for i := range nodes.Count {
		var requests []string
		for k := i; k < stock; k += nodes.Count {
			requests = append(requests, fmt.Sprintf("SET %s %0*d", stockKey(k), valueBytes, k))
		}
		if err := d.stage.node(i+1).Write("OK", requests...); err != nil {
			return err
		}
	}
	d.out.note("all acknowledged after %.1f s", time.Since(began).Seconds())
	return d.converged("node1", 1, 2, 3)
}

func stockKey(i int) string { return fmt.Sprintf("user:%08d", i) }

func (d *demo) cutOff() error {
	d.out.say("node2 is cut off from the others; its clients still reach it")
	name, err := d.stage.container(d.ctx, nodes.Name(2))
	if err != nil {
		return err
	}
	if err := d.docker("network", "disconnect", project+"_cluster", name); err != nil {
		return err
	}
	n := d.stage.node(2)
	var said nodes.Verdict
	err = d.until("node2 misses the others", func() (err error) {
		if said, err = n.Converged(); err == nil && said.Equal {
			err = fmt.Errorf("it says %q", said.Line)
		}
		return err
	})
	d.out.asked(n.Name, "CONVERGED", said.Line)
	return err
}

// writeOnBothSides writes on node2, and on node1 among the others.
func (d *demo) writeOnBothSides() error {
	d.out.say("both sides go on writing")
	for side, i := range []int{2, 1} {
		n := d.stage.node(i)
		var sets, deletes []string
		for k := range alone {
			key := fmt.Sprintf("during:%s:%d", n.Name, k)
			if k < both {
				key = stockKey(20_000 + k)
			}
			sets = append(sets, fmt.Sprintf("SET %s written on %s", key, n.Name))
		}
		for k := range gone {
			deletes = append(deletes, "DEL "+stockKey(40_000+1_000*side+k))
		}
		if err := n.Write("OK", sets...); err != nil {
			return err
		}
		if err := n.Write("DELETED", deletes...); err != nil {
			return err
		}
		d.out.note("%s: %s keys written (%d of them on both sides), %d deleted", n.Name, grouped(alone), both, gone)
	}
	return nil
}

// lose takes away the logs in which node2 would find what it missed.
func (d *demo) lose() error {
	d.out.say("the other two are killed at the same time, and start again with what is on their disks")
	if err := d.agree(1, 3); err != nil {
		return err
	}
	before, err := d.stage.node(1).Do("DBSIZE")
	if err != nil {
		return err
	}
	if err := d.restart(before, 1, 3); err != nil {
		return err
	}
	d.out.note("what they wrote is in no log any more, only in the data")
	return d.hashes()
}

// restart kills nodes, starts them and waits until they serve as many keys as before.
func (d *demo) restart(size string, which ...int) error {
	var names []string
	for _, i := range which {
		name, err := d.stage.container(d.ctx, nodes.Name(i))
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	for _, action := range []string{"kill", "start"} {
		if err := d.docker(append([]string{action}, names...)...); err != nil {
			return err
		}
	}
	began := time.Now()
	for _, i := range which {
		n := d.stage.node(i)
		if err := d.until("it has its keys again", func() error { return answers(n, "DBSIZE", size) }); err != nil {
			return err
		}
		d.out.note("%s> DBSIZE  %s  (at the latest %.1f s after its start)", n.Name, size, time.Since(began).Seconds())
	}
	return d.stage.waitHealthy(d.ctx)
}

func (d *demo) heal() error {
	sessions, err := d.stage.node(2).Sessions()
	if err != nil {
		return err
	}
	if len(sessions) > 0 {
		d.seen = sessions[0].Number
	}
	d.out.say("node2 comes back")
	name, err := d.stage.container(d.ctx, nodes.Name(2))
	if err != nil {
		return err
	}
	if err := d.docker("network", "connect", "--alias", "node2.cluster", project+"_cluster", name); err != nil {
		return err
	}
	began := time.Now()
	if err := d.agree(1, 2, 3); err != nil {
		return err
	}
	d.out.note("all three hold the same %.1f s after that", time.Since(began).Seconds())
	return d.converged("node1", 1, 2, 3)
}
