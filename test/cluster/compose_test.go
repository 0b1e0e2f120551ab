package cluster

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"merklekv/pkg/config"
	"merklekv/test/nodes"
)

// project loads the compose file as Compose v2 does, with nothing set but env.
func project(t *testing.T, env ...string) *types.Project {
	t.Helper()
	file, err := filepath.Abs("../../docker-compose.yml")
	must(t, err)
	options, err := cli.NewProjectOptions([]string{file}, cli.WithName("example"), cli.WithEnv(env))
	must(t, err)
	loaded, err := options.LoadProject(context.Background())
	must(t, err)
	return loaded
}

func TestComposeFileIsValidForV2(t *testing.T) {
	services := project(t).Services
	names := slices.Sorted(maps.Keys(services))
	if want := []string{"broker", "node1", "node2", "node3"}; !slices.Equal(names, want) {
		t.Fatalf("services %v, want %v", names, want)
	}
	for name, service := range services {
		if service.ContainerName != "" {
			t.Errorf("%s has a fixed container name: two copies cannot run side by side", name)
		}
		if aliases := service.Networks["cluster"].Aliases; !slices.Contains(aliases, name+".cluster") {
			t.Errorf("%s is known as %v between the nodes, want %s.cluster", name, aliases, name)
		}
		if service.HealthCheck == nil || service.Restart != "unless-stopped" || !service.ReadOnly {
			t.Errorf("%s lacks a health check, the restart policy or the read-only root", name)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q without being asked, want 127.0.0.1", name, port.Published, port.HostIP)
			}
		}
		if len(service.Ulimits) > 0 {
			t.Errorf("%s sets ulimits, which fails where the engine's own are lower", name)
		}
	}
	if _, both := services[Broker].Networks["clients"]; both {
		t.Error("the broker is on the clients' network: a node that is cut off would still reach it")
	}
}

// Every node keeps its data, in a volume that no other has.
func TestEveryNodeHasADiskOfItsOwn(t *testing.T) {
	loaded, err := config.Load(config.Sources{
		File: "../../configs/docker.toml", Environ: []string{"MERKLE_KV_NODE_ID=" + NodeName(1)},
	})
	must(t, err)
	if s := loaded.Config.Storage; !s.PersistenceEnabled || s.DataDir != dataDir || s.Fsync != "always" {
		t.Errorf("the containers' nodes have %+v, want all on disk in %s", s, dataDir)
	}
	services := project(t).Services
	owners := map[string]string{}
	for i := range Nodes {
		name := NodeName(i + 1)
		at := slices.IndexFunc(services[name].Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == dataDir })
		if at < 0 || services[name].Volumes[at].Type != types.VolumeTypeVolume || services[name].Volumes[at].ReadOnly {
			t.Fatalf("%s has no volume at %s: %+v", name, dataDir, services[name].Volumes)
		}
		source := services[name].Volumes[at].Source
		if owners[source] != "" {
			t.Errorf("%s and %s share the volume %s", name, owners[source], source)
		}
		owners[source] = name
	}
}

func TestEveryHostPortCanBeChanged(t *testing.T) {
	var env []string
	want := map[string]bool{}
	for i, variable := range nodes.PortVariables() {
		port := fmt.Sprint(5001 + i)
		env = append(env, variable+"="+port)
		want[port] = true
	}
	for name, service := range project(t, append(env, "MKV_BIND=0.0.0.0")...).Services {
		for _, port := range service.Ports {
			if !want[port.Published] || port.HostIP != "0.0.0.0" {
				t.Errorf("%s publishes %s on %s though every variable was set", name, port.Published, port.HostIP)
			}
			delete(want, port.Published)
		}
	}
	if len(want) > 0 {
		t.Errorf("no container listens on %v", slices.Collect(maps.Keys(want)))
	}
}

// An unknown MERKLE_KV_ name stops a node at its start, so a slip in the compose file is found here.
func TestEveryVariableOfTheComposeFileIsKnown(t *testing.T) {
	known := map[string]bool{}
	var env []string
	for _, key := range config.Keys() {
		known[key.Env()] = true
		env = append(env, key.Env()+"=given")
	}
	for name, service := range project(t, env...).Services {
		handedOn := 0
		for variable, value := range service.Environment {
			if !known[variable] {
				t.Errorf("%s sets %s, which no key of the configuration has", name, variable)
			}
			if value != nil && *value == "given" {
				handedOn++
			}
		}
		if handedOn == 0 {
			t.Errorf("%s takes nothing over from the shell that starts Compose", name)
		}
	}
}

func TestComposeFileIsValidForV1(t *testing.T) {
	compose := tool(t, "docker-compose")
	version, err := exec.CommandContext(t.Context(), compose, "version", "--short").Output()
	must(t, err)
	if !strings.HasPrefix(string(version), "1.") {
		t.Skipf("docker-compose is version %s here, and 1 has to be shown", bytes.TrimSpace(version))
	}
	output, err := exec.CommandContext(t.Context(), compose,
		"-f", "../../docker-compose.yml", "config", "--services").CombinedOutput()
	if err != nil {
		t.Fatalf("docker-compose config: %v\n%s", err, output)
	}
	services := strings.Fields(string(output))
	slices.Sort(services)
	if want := []string{"broker", "node1", "node2", "node3"}; !slices.Equal(services, want) {
		t.Errorf("services %v, want %v", services, want)
	}
}
