package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"merklekv/test/nodes"
)

// Add starts one more node, from the image and with the settings of node1 but for those given, with
// an empty volume of its own, and returns its client side. It does not wait until it is healthy. No other node is told of it.
func (c *Cluster) Add(ctx context.Context, name string, settings map[string]string) (Node, error) {
	model, err := c.inspect(ctx, NodeName(1))
	if err != nil {
		return Node{}, err
	}
	ports, err := nodes.FreePorts([]string{"clients", "admin"})
	if err != nil {
		return Node{}, err
	}
	config, host := *model.Config, *model.HostConfig
	config.Hostname = ""
	config.Labels = maps.Clone(config.Labels)
	config.Labels[labelService] = name
	config.Env = environment(config.Env, settings)
	host.PortBindings = network.PortMap{
		network.MustParsePort("7878/tcp"): publish(ports["clients"]),
		network.MustParsePort("9878/tcp"): publish(ports["admin"]),
	}
	volume := c.project + "_" + name
	if err := c.emptyVolume(ctx, volume); err != nil {
		return Node{}, fmt.Errorf("add %s: %w", name, err)
	}
	setVolume(&host, volume)
	id, err := c.create(ctx, name, c.project+"_"+name, &config, &host)
	if err != nil {
		return Node{}, err
	}
	if _, err := c.engine.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return Node{}, errors.Join(fmt.Errorf("start %s: %w", name, err), c.Remove(ctx, name))
	}
	return Node{
		Name:      name,
		Address:   fmt.Sprintf("127.0.0.1:%d", ports["clients"]),
		AdminBase: fmt.Sprintf("http://127.0.0.1:%d", ports["admin"]),
	}, nil
}

// Remove removes the container of a service, running or not. Its volume stays.
func (c *Cluster) Remove(ctx context.Context, service string) error {
	return c.act(ctx, "remove", service, func(id string) error {
		_, err := c.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
		return err
	})
}

// environment returns the variables with the settings over them.
func environment(variables []string, settings map[string]string) []string {
	merged := slices.DeleteFunc(slices.Clone(variables), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		_, set := settings[name]
		return set
	})
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		merged = append(merged, name+"="+settings[name])
	}
	return merged
}

// publish is a port of this machine and of no other.
func publish(port int) []network.PortBinding {
	return []network.PortBinding{{HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), HostPort: fmt.Sprint(port)}}
}
