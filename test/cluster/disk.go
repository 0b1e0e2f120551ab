package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// dataDir is where a node has its volume: in the images, and in configs/docker.toml.
const dataDir = "/data"

// Wipe takes the disk of a service away, as a machine that is replaced does: its container, running
// or not, is removed with its volume, and both are made anew, the volume empty. It does not start it.
func (c *Cluster) Wipe(ctx context.Context, service string) error {
	model, err := c.inspect(ctx, service)
	if err != nil {
		return err
	}
	volume, err := volumeOf(&model)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", service, err)
	}
	if err := c.Remove(ctx, service); err != nil {
		return err
	}
	if err := c.emptyVolume(ctx, volume); err != nil {
		return fmt.Errorf("wipe %s: %w", service, err)
	}
	config := *model.Config
	config.Hostname = ""
	_, err = c.create(ctx, service, strings.TrimPrefix(model.Name, "/"), &config, model.HostConfig)
	return err
}

// volumeOf is the name of the volume that a container has its data in.
func volumeOf(model *container.InspectResponse) (string, error) {
	for _, m := range model.Mounts {
		if m.Destination == dataDir && m.Type == mount.TypeVolume {
			return m.Name, nil
		}
	}
	return "", fmt.Errorf("%s has no volume at %s", model.Name, dataDir)
}

// setVolume makes a named volume the data directory of containers with this configuration.
func setVolume(host *container.HostConfig, name string) {
	host.Binds = slices.DeleteFunc(slices.Clone(host.Binds), func(bind string) bool {
		parts := strings.Split(bind, ":")
		return len(parts) > 1 && parts[1] == dataDir
	})
	host.Mounts = slices.DeleteFunc(slices.Clone(host.Mounts), func(m mount.Mount) bool { return m.Target == dataDir })
	host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: dataDir})
}

// emptyVolume makes a volume of this project, in the place of what is there under that name.
func (c *Cluster) emptyVolume(ctx context.Context, name string) error {
	if _, err := c.engine.VolumeRemove(ctx, name, client.VolumeRemoveOptions{Force: true}); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	labels := map[string]string{labelProject: c.project, labelVolume: strings.TrimPrefix(name, c.project+"_")}
	if _, err := c.engine.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: labels}); err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	return nil
}

// create makes a container of a service, on both networks.
func (c *Cluster) create(ctx context.Context, service, name string, config *container.Config, host *container.HostConfig) (id string, err error) {
	created, err := c.engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: config, HostConfig: host, Name: name,
		NetworkingConfig: &network.NetworkingConfig{
			EndpointsConfig: map[string]*network.EndpointSettings{c.project + "_clients": {Aliases: []string{service}}},
		},
	})
	if err != nil {
		return "", fmt.Errorf("create %s: %w", service, err)
	}
	// An engine before 25 takes one network when it creates a container.
	if err := c.Heal(ctx, service); err != nil {
		return "", errors.Join(err, c.Remove(ctx, service))
	}
	return created.ID, nil
}

// RunOnce runs a command of the program on the disk of a service, which is stopped, as `compose run`
// does, and returns its exit code with what it printed.
func (c *Cluster) RunOnce(ctx context.Context, service string, command ...string) (int, string, error) {
	model, err := c.inspect(ctx, service)
	if err != nil {
		return 0, "", err
	}
	config, host := *model.Config, *model.HostConfig
	config.Cmd, config.Hostname, config.Healthcheck, config.ExposedPorts = command, "", nil, nil
	config.Labels = map[string]string{labelProject: c.project}
	host.PortBindings, host.RestartPolicy, host.NetworkMode = nil, container.RestartPolicy{}, "none"
	created, err := c.engine.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &config, HostConfig: &host})
	if err != nil {
		return 0, "", fmt.Errorf("run %q on the disk of %s: %w", command, service, err)
	}
	defer func() {
		_, _ = c.engine.ContainerRemove(context.WithoutCancel(ctx), created.ID, client.ContainerRemoveOptions{Force: true})
	}()
	code, err := c.runToEnd(ctx, created.ID)
	if err != nil {
		return 0, "", fmt.Errorf("run %q on the disk of %s: %w", command, service, err)
	}
	said, err := c.logs(ctx, created.ID, "all")
	return code, said, err
}

// runToEnd starts a container and returns its exit code.
func (c *Cluster) runToEnd(ctx context.Context, id string) (int, error) {
	waiting := c.engine.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.engine.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return 0, err
	}
	select {
	case ended := <-waiting.Result:
		return int(ended.StatusCode), nil
	case err := <-waiting.Error:
		return 0, err
	}
}
