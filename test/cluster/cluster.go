// Package cluster starts the real thing: the repository's own docker-compose.yml, three nodes and a
// broker in containers, on free ports of this machine, and does to it what happens to clusters.
//
//	test ---- published ports (127.0.0.1) ----> network "clients":  node1 node2 node3
//	                                            network "cluster":  node1 node2 node3 broker
//
// Nodes know one another and the broker only by their .cluster names, which exist on the network
// "cluster" alone. So CutOff takes a node away from the others while the tests still reach it.
//
// The images are those that `make image` built; nothing is pulled, nothing is compiled here.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go/modules/compose"

	"merklekv/test/nodes"
)

// Nodes is how many nodes the compose file starts: node1 to node3.
const Nodes = nodes.Count

// healthyWithin bounds how long containers may take until all are healthy.
const healthyWithin = 60 * time.Second

// Node is a node as a client sees it.
type Node = nodes.Node

// Cluster is one running Compose project.
type Cluster struct {
	project string
	stack   *compose.DockerCompose
	engine  *client.Client
	ports   map[string]int // by the variable of the compose file that holds it
}

// Up starts the compose file in the folder root as a project of its own and returns when every
// container is healthy. Settings are added to the environment that the compose file reads. Clusters
// that run at the same time have different variants.
func Up(ctx context.Context, root, variant string, settings map[string]string) (_ *Cluster, err error) {
	project := projectName(root, variant)
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	c := &Cluster{project: project, engine: engine}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := removeLeftovers(ctx, engine, project); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if c.ports, err = nodes.FreePorts(nodes.PortVariables()); err != nil {
		return nil, err
	}
	env := make(map[string]string, len(c.ports)+len(settings))
	for name, port := range c.ports {
		env[name] = fmt.Sprint(port)
	}
	for name, value := range settings {
		env[name] = value
	}
	stack, err := compose.NewDockerComposeWith(
		compose.StackIdentifier(project), compose.WithStackFiles(filepath.Join(root, "docker-compose.yml")))
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	c.stack = stack
	if err := stack.WithEnv(env).Up(ctx); err != nil {
		return nil, fmt.Errorf("compose up: %w", err)
	}
	return c, c.WaitHealthy(ctx, c.Services()...)
}

// Close removes the containers, the networks and the data.
func (c *Cluster) Close(ctx context.Context) error {
	var errs []error
	if c.stack != nil {
		errs = append(errs,
			c.stack.Down(ctx, compose.RemoveVolumes(true), compose.RemoveOrphans(true)), c.stack.Close(),
			removeLeftovers(ctx, c.engine, c.project)) // what the compose file does not know
	}
	return errors.Join(append(errs, c.engine.Close())...)
}

// Services are the names of all services, the broker last.
func (c *Cluster) Services() []string {
	names := make([]string, 0, Nodes+1)
	for i := 1; i <= Nodes; i++ {
		names = append(names, NodeName(i))
	}
	return append(names, Broker)
}

// Broker is the service name of the broker.
const Broker = "broker"

// NodeName is the service name of node i, counted from 1.
func NodeName(i int) string { return nodes.Name(i) }

// Node is the client side of node i, counted from 1.
func (c *Cluster) Node(i int) Node { return nodes.Of(c.ports, i) }

// All are the client sides of all nodes.
func (c *Cluster) All() []Node {
	all := make([]Node, 0, Nodes)
	for i := 1; i <= Nodes; i++ {
		all = append(all, c.Node(i))
	}
	return all
}

// BrokerPort is the port of 127.0.0.1 on which the broker listens.
func (c *Cluster) BrokerPort() int { return c.ports[nodes.BrokerPort] }
