package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"
)

// imageLimit is the promised size of an image in bytes.
const imageLimit = 25_000_000

func TestImages(t *testing.T) {
	c := shared(t)
	health := map[string][]string{
		"MKV_IMAGE":        {"CMD", "/merklekv", "health"},
		"MKV_BROKER_IMAGE": {"CMD", "/merklekv", "health", "--broker"},
	}
	for variable, name := range images() {
		t.Run(name, func(t *testing.T) {
			found, err := c.engine.ImageInspect(t.Context(), name)
			must(t, err)
			if found.Size > imageLimit {
				t.Errorf("%d bytes, want at most %d", found.Size, imageLimit)
			}
			config := found.Config
			if config.User != "65532:65532" || config.StopSignal != "SIGTERM" {
				t.Errorf("user %q and stop signal %q, want 65532:65532 and SIGTERM", config.User, config.StopSignal)
			}
			if !slices.Equal(config.Entrypoint, []string{"/merklekv"}) {
				t.Errorf("entry point %q, want the program itself, without a shell", config.Entrypoint)
			}
			if config.Healthcheck == nil || !slices.Equal(config.Healthcheck.Test, health[variable]) {
				t.Errorf("health check %+v, want %q", config.Healthcheck, health[variable])
			}
			for _, variable := range config.Env {
				if strings.HasPrefix(variable, "MERKLE_KV_") {
					t.Errorf("%s is set in the image, where it would hide what a mounted file says", variable)
				}
			}
			for _, label := range []string{"title", "version", "revision", "licenses"} {
				if config.Labels["org.opencontainers.image."+label] == "" {
					t.Errorf("no label org.opencontainers.image.%s", label)
				}
			}
		})
	}
}

// Nothing in a container may run as root, gain rights, or write outside its volume.
func TestContainersAreConfined(t *testing.T) {
	c := shared(t)
	for _, service := range c.Services() {
		id, err := c.container(t.Context(), service)
		must(t, err)
		found, err := c.engine.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		must(t, err)
		host := found.Container.HostConfig
		if !host.ReadonlyRootfs || !slices.Contains(host.CapDrop, "ALL") ||
			!slices.Contains(host.SecurityOpt, "no-new-privileges:true") || host.Memory == 0 {
			t.Errorf("%s: read-only %v, dropped capabilities %v, security %v, memory limit %d",
				service, host.ReadonlyRootfs, host.CapDrop, host.SecurityOpt, host.Memory)
		}
	}
}
