package main

import "context"

// startFleet starts three nodes and a broker.
func startFleet(ctx context.Context, b *bench) (*fleet, error) {
	bin, err := b.merklekv(ctx)
	if err != nil {
		return nil, err
	}
	c, err := startCluster(ctx, bin, b.dir)
	if err != nil {
		return nil, err
	}
	f := &fleet{stop: c.stop}
	for _, n := range c.nodes {
		f.clients = append(f.clients, n.addr)
		f.admins = append(f.admins, n.admin)
	}
	return f, nil
}
