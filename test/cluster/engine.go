package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// projectName is unique to this checkout, the variant and this process, so that two runs never meet
// and the leftovers of an ended one can be told from the containers of one that runs.
func projectName(root, variant string) string {
	sum := fnv.New32a()
	sum.Write([]byte(root + "\x00" + variant))
	return fmt.Sprintf("mkvtest-%08x-%d", sum.Sum32(), os.Getpid())
}

// abandoned says whether other is a project of the same checkout whose process has ended.
func abandoned(other, own string) bool {
	family := own[:strings.LastIndexByte(own, '-')+1]
	pid, err := strconv.Atoi(strings.TrimPrefix(other, family))
	if !strings.HasPrefix(other, family) || err != nil || pid <= 0 {
		return false
	}
	return other == own || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// removeLeftovers removes what runs of this checkout left behind when they were killed.
func removeLeftovers(ctx context.Context, engine *client.Client, own string) error {
	byLabel := make(client.Filters).Add("label", labelProject)
	left := func(labels map[string]string) bool { return abandoned(labels[labelProject], own) }

	containers, err := engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: byLabel})
	if err != nil {
		return err
	}
	var errs []error
	for _, found := range containers.Items {
		if left(found.Labels) {
			_, err := engine.ContainerRemove(ctx, found.ID,
				client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			errs = append(errs, err)
		}
	}
	networks, err := engine.NetworkList(ctx, client.NetworkListOptions{Filters: byLabel})
	if err != nil {
		return err
	}
	for _, found := range networks.Items {
		if left(found.Labels) {
			_, err := engine.NetworkRemove(ctx, found.ID, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
	}
	volumes, err := engine.VolumeList(ctx, client.VolumeListOptions{Filters: byLabel})
	if err != nil {
		return err
	}
	for _, found := range volumes.Items {
		if left(found.Labels) {
			_, err := engine.VolumeRemove(ctx, found.Name, client.VolumeRemoveOptions{Force: true})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// container returns the id of the service's container, whatever state it is in.
func (c *Cluster) container(ctx context.Context, service string) (string, error) {
	found, err := c.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true,
		Filters: make(client.Filters).
			Add("label", labelProject+"="+c.project, labelService+"="+service),
	})
	if err != nil {
		return "", fmt.Errorf("find the container of %s: %w", service, err)
	}
	if len(found.Items) != 1 {
		return "", fmt.Errorf("%d containers of %s in project %s, want 1", len(found.Items), service, c.project)
	}
	return found.Items[0].ID, nil
}

func (c *Cluster) inspect(ctx context.Context, service string) (container.InspectResponse, error) {
	id, err := c.container(ctx, service)
	if err != nil {
		return container.InspectResponse{}, err
	}
	found, err := c.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return container.InspectResponse{}, fmt.Errorf("inspect %s: %w", service, err)
	}
	return found.Container, nil
}

func (c *Cluster) state(ctx context.Context, service string) (*container.State, error) {
	found, err := c.inspect(ctx, service)
	if err != nil {
		return nil, err
	}
	return found.State, nil
}

// act finds the service's container and does something to it.
func (c *Cluster) act(ctx context.Context, what, service string, do func(id string) error) error {
	id, err := c.container(ctx, service)
	if err != nil {
		return err
	}
	if err := do(id); err != nil {
		return fmt.Errorf("%s %s: %w", what, service, err)
	}
	return nil
}
