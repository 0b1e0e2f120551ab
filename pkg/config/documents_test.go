package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write CONFIGURATION.md")

func TestDocumentation(t *testing.T) {
	const path = "CONFIGURATION.md"
	if *update {
		if err := os.WriteFile(path, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Markdown() {
		t.Errorf("%s does not say what the key table says: run go test ./pkg/config -run Documentation -update", path)
	}
	for _, key := range Keys() {
		if !strings.Contains(string(got), "| `"+lastPart(key.Name)+"` |") {
			t.Errorf("%s is not documented", key.Name)
		}
	}
}

// examples are the files of the configs directory, by name.
func examples(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../configs/*.toml")
	if err != nil || len(paths) < 6 {
		t.Fatalf("%d examples, %v", len(paths), err)
	}
	byName := make(map[string]string)
	for _, path := range paths {
		byName[filepath.Base(path)] = path
	}
	return byName
}

func TestExamplesAreValid(t *testing.T) {
	for name, path := range examples(t) {
		if name == "merklekv.full.toml" {
			continue // it has a test of its own
		}
		src := Sources{File: path}
		if name == "docker.toml" { // each container has its name from its environment
			src.Environ = []string{"MERKLE_KV_NODE_ID=node1"}
		}
		if _, err := Load(src); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExamplesOfOneMachineGoTogether(t *testing.T) {
	files := examples(t)
	seen := make(map[any]string)
	for _, name := range []string{"node1.toml", "node2.toml", "node3.toml"} {
		c := mustLoad(t, Sources{File: files[name]}).Config
		if c.MQTT.TopicPrefix != "cluster-merkle-kv" || c.MQTT.BrokerAddress != "tcp://localhost:1883" || len(c.AntiEntropy.PeerList) != 2 {
			t.Errorf("%s: %v", name, c)
		}
		for _, own := range []any{c.NodeID, c.Network.BindPort, c.Admin.BindPort} {
			if seen[own] != "" {
				t.Errorf("%s and %s both have %v", seen[own], name, own)
			}
			seen[own] = name
		}
		for _, peer := range c.AntiEntropy.Peers() {
			if peer == Reach(c.Network.BindAddress, c.Network.BindPort) {
				t.Errorf("%s has itself for a peer", name)
			}
		}
	}
}

func TestProductionHasTheSpecifiedValues(t *testing.T) {
	c := mustLoad(t, Sources{File: examples(t)["production.toml"]}).Config
	got := []any{c.Network.MaxConnections, c.Network.ConnectionTimeout, c.Storage.MemoryLimitMB,
		c.AntiEntropy.Interval, c.AntiEntropy.MaxConcurrentSyncs, c.Logging.Level}
	if want := []any{10000, Seconds(60), 8192, Seconds(300), 5, "warn"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFullExampleHasEveryKeyWithItsDefault(t *testing.T) {
	data, err := os.ReadFile(examples(t)["merklekv.full.toml"])
	if err != nil {
		t.Fatal(err)
	}
	plain := mustLoad(t, Sources{Partial: true, File: writeFile(t, "plain.toml", string(data))})
	sampled := mustLoad(t, Sources{File: writeFile(t, "sampled.toml", strings.ReplaceAll(string(data), "#! ", ""))})
	values, defaults := flatten(plain.Config), flatten(Default())
	for _, key := range Keys() {
		if sampled.Origins[key.Name].Layer != FromFile {
			t.Errorf("%s is missing", key.Name)
		}
		if plain.Origins[key.Name].Layer == FromFile && !reflect.DeepEqual(values[key.Name], defaults[key.Name]) {
			t.Errorf("%s is %v, its default %v", key.Name, values[key.Name], defaults[key.Name])
		}
		if plain.Origins[key.Name].Layer != FromFile && key.Default() != `""` {
			t.Errorf("%s has a default and stands there as a sample", key.Name)
		}
	}
}

func TestFullExampleMarksWhatTheTableMarks(t *testing.T) {
	data, err := os.ReadFile(examples(t)["merklekv.full.toml"])
	if err != nil {
		t.Fatal(err)
	}
	section, comment := "", ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "#! ")
		name, _, isKey := strings.Cut(line, " = ")
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]") + "."
		case line == "":
			comment = ""
		case strings.HasPrefix(line, "#"):
			comment += line
		case isKey:
			key := lookup()[section+name]
			if got := strings.Contains(comment, "later"); got != (key.Status == Later) {
				t.Errorf("%s is marked later: %v", key.Name, got)
			}
			if got := strings.Contains(comment, "reload"); got != key.Reloadable {
				t.Errorf("%s is marked reload: %v", key.Name, got)
			}
			comment = ""
		}
	}
}

// The README names exactly those keys that a reload brings into force now.
func TestReadmeNamesWhatReloads(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "reload the configuration: ")
	named, _, ends := strings.Cut(after, " take effect at once")
	if !found || !ends {
		t.Fatal("the README does not say what a reload brings into force")
	}
	for _, key := range Keys() {
		if want := key.Reloadable && key.Status == Now; strings.Contains(named, "`"+key.Name+"`") != want {
			t.Errorf("%s takes effect at once: %v; the README says otherwise", key.Name, want)
		}
	}
}
