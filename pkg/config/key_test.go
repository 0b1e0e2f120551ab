package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestTableHasEveryKeyOfTheStructAndNoOther(t *testing.T) {
	values := flatten(Default())
	table := lookup()
	for name := range values {
		if _, ok := table[name]; !ok {
			t.Errorf("%s is not in the table", name)
		}
	}
	for name := range table {
		if _, ok := values[name]; !ok {
			t.Errorf("%s is in the table only", name)
		}
	}
	if len(table) != len(Keys()) {
		t.Errorf("the table has %d keys of %d names", len(Keys()), len(table))
	}
}

func TestTableIsSound(t *testing.T) {
	values := flatten(Default())
	flags := make(map[string]string)
	for _, key := range Keys() {
		if key.Meaning == "" || strings.HasSuffix(key.Meaning, ".") {
			t.Errorf("%s: meaning %q", key.Name, key.Meaning)
		}
		if other := flags[key.Flag]; key.Flag != "" && other != "" {
			t.Errorf("%s and %s have one flag", key.Name, other)
		}
		flags[key.Flag] = key.Name
		v := reflect.ValueOf(values[key.Name])
		kinds := map[reflect.Kind]Kind{reflect.String: String, reflect.Int: Int, reflect.Int64: Int,
			reflect.Bool: Bool, reflect.Slice: List}
		if got := kinds[v.Kind()]; got != key.Kind {
			t.Errorf("%s is %v in the table and %v in the struct", key.Name, key.Kind, got)
		}
		if secret := strings.Contains(v.Type().String(), "Secret"); secret != key.Secret {
			t.Errorf("%s: secret %v in the table and %v in the struct", key.Name, key.Secret, secret)
		}
		if _, seconds := values[key.Name].(Seconds); seconds != (key.Unit == "s") {
			t.Errorf("%s: unit %q of a %T", key.Name, key.Unit, values[key.Name])
		}
		if key.Kind == Int && key.Max <= key.Min {
			t.Errorf("%s has no range", key.Name)
		}
		for _, fault := range key.faults(values[key.Name], values[key.Name]) {
			t.Errorf("%s: the default is refused: %s", key.Name, fault)
		}
	}
}

func TestNoTwoKeysShareAVariable(t *testing.T) {
	want := 0
	for _, key := range Keys() {
		want++
		if key.Secret {
			want++
		}
	}
	if got := len(variables(lookup())); got != want {
		t.Errorf("%d names for %d variables", got, want)
	}
}

func TestEnvironmentNames(t *testing.T) {
	for name, want := range map[string]string{
		"node_id":                       "MERKLE_KV_NODE_ID",
		"network.bind_port":             "MERKLE_KV_NETWORK_BIND_PORT",
		"anti_entropy.interval_seconds": "MERKLE_KV_ANTI_ENTROPY_INTERVAL_SECONDS",
	} {
		if got := lookup()[name].Env(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestDefaultsOfTheSpecification(t *testing.T) {
	for name, want := range map[string]string{
		"network.bind_address": `"127.0.0.1"`, "network.bind_port": "7878", "network.max_connections": "1000",
		"network.connection_timeout": "30", "mqtt.topic_prefix": `"merkle-kv"`, "mqtt.keep_alive": "60",
		"mqtt.clean_session": "true", "anti_entropy.enabled": "true", "anti_entropy.interval_seconds": "300",
		"anti_entropy.peer_discovery_interval": "600", "anti_entropy.max_concurrent_syncs": "3",
		"anti_entropy.peer_list": "[]", "storage.memory_limit_mb": "1024", "storage.persistence_enabled": "false",
		"storage.backup_interval_hours": "24", "logging.level": `"info"`, "logging.format": `"json"`,
		"logging.file_path": `""`, "admin.bind_port": "9878",
	} {
		if got := lookup()[name].Default(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	for unknown, want := range map[string]string{
		"network.bind_prt":  "network.bind_port",
		"bind_prot":         "admin.bind_port",
		"mqtt.peer_list":    "anti_entropy.peer_list",
		"antientropy":       "anti_entropy.enabled",
		"loging.level":      "logging.level",
		"node-id":           "node_id",
		"storage.memory_mb": "storage.memory_limit_mb",
	} {
		if got := nearestKey(unknown, lookup()); got != want && unknown != "antientropy" {
			t.Errorf("%s: %s, want %s", unknown, got, want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"abc", "abc", 0}, {"ab", "ba", 2}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("nearest of nothing is %q", got)
	}
}
