package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// visibleTimeout is how long a write may take to reach every node.
const visibleTimeout = 30 * time.Second

// cluster is three nodes and the broker between them, each a process.
type cluster struct {
	nodes  []*server
	broker *process
}

// startCluster starts the broker and three nodes, and waits until each has what
// another wrote. On failure nothing is left behind.
func startCluster(ctx context.Context, bin, dir string) (_ *cluster, err error) {
	c := &cluster{}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	addrs, err := freeAddrs(7)
	if err != nil {
		return nil, err
	}
	clients, admins, broker := addrs[:3], addrs[3:6], addrs[6]
	if err := c.startBroker(ctx, bin, dir, broker); err != nil {
		return nil, err
	}
	for i, client := range clients {
		set := nodeSettings(dir, fmt.Sprintf("node%d", i+1), client, admins[i])
		set["mqtt.broker_address"] = "tcp://" + broker
		set["anti_entropy.peer_list"] = strings.Join(clients, ",")
		set["network.advertise_address"] = client
		node, err := startNode(ctx, bin, dir, client, admins[i], set)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, node)
	}
	_, err = spread(ctx, clients, "ready")
	return c, err
}

// startBroker starts merklekv broker and waits until it accepts connections.
func (c *cluster) startBroker(ctx context.Context, bin, dir, addr string) error {
	set := settings{
		"node_id":             "broker",
		"broker.enabled":      "true",
		"broker.bind_address": "127.0.0.1",
		"broker.bind_port":    portOf(addr),
		"logging.level":       "warn",
	}
	var err error
	if c.broker, err = startProcess(dir, "broker", set.environ(), bin, "broker"); err != nil {
		return err
	}
	return c.broker.await(ctx, startTimeout, func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// stop ends every process that was started.
func (c *cluster) stop() {
	for _, n := range c.nodes {
		n.stop()
	}
	if c.broker != nil {
		c.broker.stop()
	}
}

// spread writes a marker on every node and returns after what time the last of
// them was visible on all. A node's marker follows all that was written there
// before.
func spread(ctx context.Context, addrs []string, name string) (time.Duration, error) {
	clients := make([]*client, len(addrs))
	for i, addr := range addrs {
		c, err := dialClient(addr, textDialect{})
		if err != nil {
			return 0, err
		}
		defer c.close()
		clients[i] = c
	}
	start := time.Now()
	for i, c := range clients {
		r, err := c.do(textDialect{}.AppendSet(nil, marker(name, i), []byte(name)))
		if err != nil {
			return 0, err
		}
		if string(r.body) != "OK" {
			return 0, fmt.Errorf("%w to a marker: %.100q", errUnexpectedReply, r.body)
		}
	}
	for i := range clients {
		for j, c := range clients {
			if err := awaitKey(ctx, c, marker(name, i)); err != nil {
				return 0, fmt.Errorf("node%d's marker on node%d: %w", i+1, j+1, err)
			}
		}
	}
	return time.Since(start), nil
}

func marker(name string, node int) []byte { return fmt.Appendf(nil, "marker:%s:%d", name, node+1) }

// awaitKey polls until a key is there.
func awaitKey(ctx context.Context, c *client, key []byte) error {
	ctx, cancel := context.WithTimeout(ctx, visibleTimeout)
	defer cancel()
	for request := (textDialect{}).AppendGet(nil, key); ; {
		r, err := c.do(request)
		if err != nil {
			return err
		}
		if r.kind == replyText {
			return nil
		}
		if err := rest(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}
