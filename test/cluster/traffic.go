package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Traffic returns how many bytes the service's network interfaces have carried, both ways. One that
// CutOff took away is counted no more, and one that Heal brought begins at 0.
func (c *Cluster) Traffic(ctx context.Context, service string) (int64, error) {
	id, err := c.container(ctx, service)
	if err != nil {
		return 0, err
	}
	found, err := c.engine.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return 0, fmt.Errorf("traffic of %s: %w", service, err)
	}
	defer found.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(found.Body).Decode(&stats); err != nil {
		return 0, fmt.Errorf("traffic of %s: %w", service, err)
	}
	var bytes uint64
	for _, network := range stats.Networks {
		bytes += network.RxBytes + network.TxBytes
	}
	return int64(bytes), nil
}
