package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"merklekv/pkg/config"
	"merklekv/pkg/node"
)

// fleet is the nodes that sustain writes to, wherever they run.
type fleet struct {
	clients []string     // client address of each
	admins  []string     // admin address of each
	stop    func() error // ends and awaits them all; says which did not end well
}

// startFleet starts three nodes: in this process, with a broker inside the first
// one, or as processes of their own with a broker beside them.
func startFleet(ctx context.Context, b *bench) (*fleet, error) {
	if b.processes {
		return startProcessFleet(ctx, b)
	}
	f := &fleet{}
	nodes, err := makeNodes(b.dir)
	if err != nil {
		return nil, err
	}
	f.stop = runNodes(ctx, nodes)
	for _, n := range nodes {
		f.clients = append(f.clients, n.Addr().String())
		f.admins = append(f.admins, n.AdminAddr().String())
	}
	if err := f.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	return f, nil
}

// startProcessFleet starts the same as processes.
func startProcessFleet(ctx context.Context, b *bench) (*fleet, error) {
	bin, err := b.merklekv(ctx)
	if err != nil {
		return nil, err
	}
	c, err := startCluster(ctx, bin, b.dir)
	if err != nil {
		return nil, err
	}
	f := &fleet{stop: func() error { c.stop(); return nil }}
	for _, n := range c.nodes {
		f.clients = append(f.clients, n.addr)
		f.admins = append(f.admins, n.admin)
	}
	return f, nil
}

// makeNodes makes three nodes on free ports; each knows the address of those
// before it, and finds the others by their presence.
func makeNodes(dir string) (nodes []*node.Node, err error) {
	defer func() {
		if err != nil {
			for _, n := range nodes {
				n.Close()
			}
		}
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var peers []string
	for i := range 3 {
		c := config.Default()
		c.NodeID = fmt.Sprintf("node%d", i+1)
		c.Network.BindAddress, c.Network.BindPort = "127.0.0.1", 0
		c.Admin.BindAddress, c.Admin.BindPort = "127.0.0.1", 0
		c.Storage.DataDir = filepath.Join(dir, c.NodeID)
		c.Storage.MemoryLimitMB = 4096
		c.AntiEntropy.PeerList = peers
		if i == 0 {
			c.Broker.Enabled, c.Broker.BindAddress, c.Broker.BindPort = true, "127.0.0.1", 0
		} else {
			c.MQTT.BrokerAddress = "tcp://" + nodes[0].BrokerAddr().String()
		}
		n, err := node.New(context.Background(), node.Options{Config: c, Version: "bench", Logger: logger})
		if err != nil {
			return nodes, fmt.Errorf("%s: %w", c.NodeID, err)
		}
		nodes = append(nodes, n)
		peers = append(peers[:len(peers):len(peers)], n.Addr().String())
	}
	return nodes, nil
}

// runNodes runs the nodes until the returned function is called, which waits for
// them and returns what they ended with. When ctx ends they end too.
func runNodes(ctx context.Context, nodes []*node.Node) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	results := make([]error, len(nodes))
	for i, n := range nodes {
		running.Go(func() {
			if err := n.Run(ctx); err != nil {
				results[i] = fmt.Errorf("node%d: %w", i+1, err)
			}
		})
	}
	return func() error {
		cancel()
		running.Wait()
		return errors.Join(results...)
	}
}

// awaitReady waits until every node serves and has what another wrote.
func (f *fleet) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the nodes are not ready in time"))
	defer cancel()
	for _, addr := range f.clients {
		for {
			err := probe(addr, textDialect{})
			if err == nil {
				break
			}
			if over := rest(ctx, 20*time.Millisecond); over != nil {
				return errors.Join(over, err)
			}
		}
	}
	_, err := spread(ctx, f.clients, "ready")
	return err
}
