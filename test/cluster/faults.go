package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelVolume  = "com.docker.compose.volume"

	// stopGrace is stop_grace_period of the compose file in seconds; later the engine kills.
	stopGrace = 20
	// healthInterval is how often a container's health is looked at.
	healthInterval = 100 * time.Millisecond
)

// Stop stops the service as `docker stop` does and returns its exit code: 137 is a kill, because
// the grace period was not enough.
func (c *Cluster) Stop(ctx context.Context, service string) (int, error) {
	id, err := c.container(ctx, service)
	if err != nil {
		return 0, err
	}
	grace := stopGrace
	if _, err := c.engine.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &grace}); err != nil {
		return 0, fmt.Errorf("stop %s: %w", service, err)
	}
	state, err := c.state(ctx, service)
	if err != nil {
		return 0, err
	}
	return state.ExitCode, nil
}

// Start starts a stopped service; it does not wait until it is healthy.
func (c *Cluster) Start(ctx context.Context, service string) error {
	return c.act(ctx, "start", service, func(id string) error {
		_, err := c.engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	})
}

// Kill ends the service at once, without a chance to say good-bye.
func (c *Cluster) Kill(ctx context.Context, service string) error {
	return c.act(ctx, "kill", service, func(id string) error {
		_, err := c.engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		return err
	})
}

// Pause freezes all processes of the service: it keeps its connections and says nothing.
func (c *Cluster) Pause(ctx context.Context, service string) error {
	return c.act(ctx, "pause", service, func(id string) error {
		_, err := c.engine.ContainerPause(ctx, id, client.ContainerPauseOptions{})
		return err
	})
}

// Unpause ends what Pause began.
func (c *Cluster) Unpause(ctx context.Context, service string) error {
	return c.act(ctx, "unpause", service, func(id string) error {
		_, err := c.engine.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
		return err
	})
}

// CutOff takes the service away from the other nodes and the broker. Its connections to them fall
// silent, its name is gone from their network; its published client port goes on.
func (c *Cluster) CutOff(ctx context.Context, service string) error {
	return c.act(ctx, "cut off", service, func(id string) error {
		_, err := c.engine.NetworkDisconnect(ctx, c.clusterNetwork(), client.NetworkDisconnectOptions{Container: id})
		return err
	})
}

// Heal ends what CutOff began.
func (c *Cluster) Heal(ctx context.Context, service string) error {
	return c.act(ctx, "heal", service, func(id string) error {
		_, err := c.engine.NetworkConnect(ctx, c.clusterNetwork(), client.NetworkConnectOptions{
			Container:      id,
			EndpointConfig: &network.EndpointSettings{Aliases: []string{service + ".cluster", service}},
		})
		return err
	})
}

// IsCutOff says whether the service is away from the others' network.
func (c *Cluster) IsCutOff(ctx context.Context, service string) (bool, error) {
	found, err := c.inspect(ctx, service)
	if err != nil {
		return false, err
	}
	_, attached := found.NetworkSettings.Networks[c.clusterNetwork()]
	return !attached, nil
}

// clusterNetwork is the network between the nodes, by the name that Compose gives it.
func (c *Cluster) clusterNetwork() string { return c.project + "_cluster" }

// Exec runs a command in the service's container and returns its exit code with what it printed.
func (c *Cluster) Exec(ctx context.Context, service string, command ...string) (int, string, error) {
	id, err := c.container(ctx, service)
	if err != nil {
		return 0, "", err
	}
	created, err := c.engine.ExecCreate(ctx, id,
		client.ExecCreateOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, "", fmt.Errorf("exec in %s: %w", service, err)
	}
	attached, err := c.engine.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, "", fmt.Errorf("exec in %s: %w", service, err)
	}
	defer attached.Close()
	var output bytes.Buffer
	if _, err := stdcopy.StdCopy(&output, &output, attached.Reader); err != nil {
		return 0, "", fmt.Errorf("exec in %s: read its output: %w", service, err)
	}
	done, err := c.engine.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
	if err != nil {
		return 0, "", fmt.Errorf("exec in %s: %w", service, err)
	}
	return done.ExitCode, strings.TrimSpace(output.String()), nil
}

// Logs returns the last lines that the service logged.
func (c *Cluster) Logs(ctx context.Context, service string, lines int) (string, error) {
	id, err := c.container(ctx, service)
	if err != nil {
		return "", err
	}
	return c.logs(ctx, id, fmt.Sprint(lines))
}

// logs returns the last lines of a container, or all.
func (c *Cluster) logs(ctx context.Context, id, lines string) (string, error) {
	stream, err := c.engine.ContainerLogs(ctx, id,
		client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: lines})
	if err != nil {
		return "", fmt.Errorf("logs of %s: %w", id, err)
	}
	defer stream.Close()
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, stream); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("logs of %s: %w", id, err)
	}
	return text.String(), nil
}

// WaitHealthy returns once all the services are healthy.
func (c *Cluster) WaitHealthy(ctx context.Context, services ...string) error {
	limit := time.NewTimer(healthyWithin)
	defer limit.Stop()
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for _, service := range services {
		for {
			state, err := c.state(ctx, service)
			if err != nil {
				return err
			}
			if state.Health != nil && state.Health.Status == container.Healthy {
				break
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-limit.C:
				return fmt.Errorf("%s is not healthy within %v: %s", service, healthyWithin, complaint(state))
			case <-tick.C:
			}
		}
	}
	return nil
}

// complaint is the state of a container and what its health check said last.
func complaint(state *container.State) string {
	said := "the health check has not run"
	if state.Health != nil && len(state.Health.Log) > 0 {
		said = strings.TrimSpace(state.Health.Log[len(state.Health.Log)-1].Output)
	}
	return fmt.Sprintf("%s, exit code %d: %s", state.Status, state.ExitCode, said)
}

// Restore ends every fault: nothing is paused, cut off or stopped, and all is healthy.
func (c *Cluster) Restore(ctx context.Context) error {
	for _, service := range c.Services() {
		state, err := c.state(ctx, service)
		if err != nil {
			return err
		}
		if state.Paused {
			err = c.Unpause(ctx, service)
		} else if !state.Running {
			err = c.Start(ctx, service)
		}
		if err != nil {
			return err
		}
		if cut, err := c.IsCutOff(ctx, service); err != nil {
			return err
		} else if cut {
			if err := c.Heal(ctx, service); err != nil {
				return err
			}
		}
	}
	return c.WaitHealthy(ctx, c.Services()...)
}
