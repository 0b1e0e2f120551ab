package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"merklekv/test/nodes"
)

// price adds up the repair sessions of node2 since it is back.
func (d *demo) price() error {
	sessions, err := d.stage.node(2).Sessions()
	if err != nil {
		return err
	}
	var dumps [nodes.Count]map[string]string
	for i := range dumps {
		if dumps[i], err = d.stage.node(i + 1).Dump(); err != nil {
			return err
		}
		if !maps.Equal(dumps[0], dumps[i]) {
			return fmt.Errorf("%s and %s do not hold the same", nodes.Name(1), nodes.Name(i+1))
		}
	}
	d.held = dumps[0]
	sum := total(sessions, d.seen)
	if sum.count == 0 {
		return fmt.Errorf("no repair session moved anything: %+v", sessions)
	}
	d.out.say("what it cost: the repair sessions of node2 that moved something")
	full := size(d.held)
	d.out.figure("sessions", grouped(sum.count), "with "+strings.Join(sum.peers, ", "))
	d.out.figure("entries compared", grouped(sum.compared), "")
	d.out.figure("keys that differed", grouped(sum.differing), "")
	d.out.figure("entries moved", grouped(sum.moved), fmt.Sprintf("%s to node2, %s from it", grouped(sum.pulled), grouped(sum.moved-sum.pulled)))
	d.out.figure("round trips", grouped(sum.roundTrips), "")
	d.out.figure("time", fmt.Sprintf("%.1f ms", sum.millis), "")
	d.out.figure("bytes on the link", grouped(sum.bytes), "both ways, handshake included")
	d.out.figure("bytes of a full copy", grouped(full), fmt.Sprintf("keys and values alone: %.0f times as much", float64(full)/float64(sum.bytes)))
	d.out.note("(what node2 wrote meanwhile was in its own log, from which the others fetch it as well)")
	return nil
}

// totals are sessions added up.
type totals struct {
	count, compared, differing, moved, pulled, roundTrips int

	bytes  int64
	millis float64
	peers  []string
}

// total adds up the sessions after the one with a number that moved something.
func total(sessions []nodes.Session, after uint64) totals {
	var sum totals
	for _, s := range sessions {
		if s.Number <= after || s.Moved() == 0 {
			continue
		}
		sum.count++
		sum.compared += s.Compared
		sum.differing += s.Differing
		sum.moved += s.Moved()
		sum.pulled += s.Pulled
		sum.roundTrips += s.RoundTrips
		sum.bytes += s.Bytes()
		sum.millis += s.Millis
		sum.peers = append(sum.peers, s.Peer)
	}
	return sum
}

// size is how many bytes keys and values have.
func size(held map[string]string) int64 {
	var sum int64
	for key, value := range held {
		sum += int64(len(key) + len(value))
	}
	return sum
}

func (d *demo) verdict() error {
	d.out.say("%s keys, the same on all three nodes, read one by one", grouped(len(d.held)))
	for _, sample := range []struct{ key, what string }{
		{stockKey(20_000), "written on both sides"},
		{"during:node1:999", "written while node2 was away"},
		{"during:node2:999", "written on node2 meanwhile"},
		{stockKey(40_000), "deleted on node2 meanwhile"},
	} {
		value, found := d.held[sample.key]
		if !found {
			value = "(null)"
		}
		d.out.note("%-21s %-18s %s", "GET "+sample.key, value, sample.what)
	}
	return d.hashes()
}

// hashes shows the root of each node.
func (d *demo) hashes() error {
	for i := range nodes.Count {
		n := d.stage.node(i + 1)
		root, err := n.Do("HASH")
		if err != nil {
			return err
		}
		d.out.note("%s> HASH  %s", n.Name, root)
	}
	return nil
}

// converged waits until the nodes all say that all are equal.
func (d *demo) converged(who string, which ...int) error {
	began := time.Now()
	var said nodes.Verdict
	err := d.until("all nodes are equal", func() (err error) {
		for _, i := range which {
			n := d.stage.node(i)
			if said, err = n.Converged(); err == nil && !said.Equal {
				err = fmt.Errorf("%s says %q", n.Name, said.Line)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.out.asked(who, "CONVERGED", said.Line)
	d.out.note("waited for %.1f s", time.Since(began).Seconds())
	return nil
}

// agree waits until nodes have the same root of what they hold at this moment.
func (d *demo) agree(which ...int) error {
	return d.until("the nodes have the same root", func() error {
		root, err := d.stage.node(which[0]).Do("HASH")
		if err == nil && strings.HasPrefix(root, "ERROR: ") {
			err = fmt.Errorf("%s says %q", nodes.Name(which[0]), root)
		}
		for _, i := range which[1:] {
			if err == nil {
				err = answers(d.stage.node(i), "HASH", root)
			}
		}
		return err
	})
}

// answers returns an error unless the node answers a request so.
func answers(n nodes.Node, request, want string) error {
	got, err := n.Do(request)
	if err == nil && got != want {
		err = fmt.Errorf("%s answers %q to %s, not %q", n.Name, got, request, want)
	}
	return err
}

// docker shows a command and runs it.
func (d *demo) docker(args ...string) error {
	d.out.note("$ docker %s", strings.Join(args, " "))
	_, err := d.stage.run(d.ctx, "docker", args...)
	return err
}

// until polls until cond returns nil; when it never does, it returns the last error.
func (d *demo) until(what string, cond func() error) error {
	ctx, cancel := context.WithTimeout(d.ctx, eventually)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %s: %w", eventually, what, err)
		case <-tick.C:
		}
	}
}
