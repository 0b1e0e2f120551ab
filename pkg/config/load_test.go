package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// flagSet returns the flags of a command line.
func flagSet(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("config", "", "not a key")
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestEachLayerOverridesTheOneBefore(t *testing.T) {
	file := writeFile(t, "n.toml", required+"[network]\nbind_port = 1001\nmax_connections = 1002\nidle_timeout = 1003\n")
	src := Sources{
		File:    file,
		Environ: []string{"PATH=/bin", "MERKLE_KV_NETWORK_MAX_CONNECTIONS=2002", "MERKLE_KV_NETWORK_BIND_PORT=2001"},
		Flags:   flagSet(t, "--config", "x", "--bind-port", "3001"),
	}
	loaded := mustLoad(t, src)
	n := loaded.Config.Network
	got := []int{n.BindPort, n.MaxConnections, int(n.IdleTimeout), int(n.ConnectionTimeout)}
	if want := []int{3001, 2002, 1003, 30}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for key, want := range map[string]string{
		"network.bind_port":          "flag --bind-port",
		"network.max_connections":    "env MERKLE_KV_NETWORK_MAX_CONNECTIONS",
		"network.idle_timeout":       file + ":6",
		"network.connection_timeout": "default",
		"mqtt.broker_address":        file + ":2",
		"admin.bind_port":            "default (network.bind_port + 2000)",
		"mqtt.client_id":             "default (node_id)",
	} {
		if got := loaded.Origins[key].String(); got != want {
			t.Errorf("%s is from %q, want %q", key, got, want)
		}
	}
	if len(loaded.Origins) != len(Keys()) {
		t.Errorf("%d origins of %d keys", len(loaded.Origins), len(Keys()))
	}
}

func TestEveryKeyOfEveryLayerReachesTheConfig(t *testing.T) {
	samples := map[Kind]string{Int: "1024", Bool: "", List: "u:p,v:q", String: "text"}
	for _, key := range Keys() {
		text := samples[key.Kind]
		switch {
		case key.Kind == Bool:
			text = map[string]string{"true": "false", "false": "true"}[key.Default()]
		case len(key.Choices) > 0:
			text = key.Choices[len(key.Choices)-1]
		case strings.HasSuffix(key.Name, "bind_address"):
			text = "::1"
		case key.Name == "anti_entropy.peer_list" || key.Name == "mqtt.broker_addresses":
			text = "a:1,b:2"
		case key.Name == "logging.max_files":
			text = "7"
		case key.Name == "anti_entropy.max_bytes_per_second":
			text = "70000"
		}
		want, err := fromText(key, text, ",")
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := Load(Sources{Partial: true, Environ: []string{
			key.Env() + "=" + text, "MERKLE_KV_MQTT_USERNAME=u", "MERKLE_KV_STORAGE_PERSISTENCE_ENABLED=true",
		}})
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.ValueOf(flatten(loaded.Config)[key.Name])
		if key.Name == "mqtt.username" {
			continue // set twice
		}
		for i := range max(1, lenOf(key, got)) {
			g, w := got, reflect.ValueOf(want)
			if key.Kind == List {
				g, w = g.Index(i), w.Index(i)
			}
			if !g.Convert(w.Type()).Equal(w) {
				t.Errorf("%s is %v, want %v", key.Name, g.Convert(w.Type()), w)
			}
		}
	}
}

func lenOf(key Key, v reflect.Value) int {
	if key.Kind == List {
		return v.Len()
	}
	return 0
}

func TestListsReplaceLists(t *testing.T) {
	file := writeFile(t, "n.toml", required+"[anti_entropy]\npeer_list = [\"a:1\", \"b:2\", \"c:3\"]\n")
	for text, want := range map[string][]string{" x:1 , y:2": {"x:1", "y:2"}, "": {}, "z": {"z"}} {
		loaded := mustLoad(t, Sources{File: file, Environ: []string{"MERKLE_KV_ANTI_ENTROPY_PEER_LIST=" + text}})
		if got := loaded.Config.AntiEntropy.PeerList; !slices.Equal(got, want) {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	loaded := mustLoad(t, Sources{File: file, Flags: flagSet(t, "--peer", "x:1,y:2", "--peer", "z:3")})
	if got := loaded.Config.AntiEntropy.PeerList; !slices.Equal(got, []string{"x:1", "y:2", "z:3"}) {
		t.Errorf("flags give %q", got)
	}
}

func TestEmbeddedDefault(t *testing.T) {
	loaded := mustLoad(t, Sources{HostName: "my host/1"})
	c := loaded.Config
	if !loaded.Embedded || c.NodeID != "my-host-1" || !c.Broker.Enabled || c.MQTT.BrokerAddress != "tcp://127.0.0.1:1883" {
		t.Errorf("got %v, %q, %v, %q", loaded.Embedded, c.NodeID, c.Broker.Enabled, c.MQTT.BrokerAddress)
	}
	if got := mustLoad(t, Sources{HostName: strings.Repeat("x", 300)}).Config.NodeID; len(got) != 64 {
		t.Errorf("a long host name gives %d characters", len(got))
	}
	loaded = mustLoad(t, Sources{Environ: []string{"MERKLE_KV_NODE_ID=own", "MERKLE_KV_NETWORK_BIND_PORT=1000"}})
	if !loaded.Embedded || loaded.Config.NodeID != "own" || loaded.Config.Admin.BindPort != 3000 {
		t.Errorf("got %v", loaded.Config)
	}
	for _, src := range []Sources{
		{Environ: []string{"MERKLE_KV_MQTT_KEEP_ALIVE=5"}},
		{Environ: []string{"MERKLE_KV_BROKER_BIND_PORT=5"}},
		{Environ: []string{"MERKLE_KV_BROKER_BIND_PORT=wrong"}},
		{Flags: flagSet(t, "--topic-prefix", "p")},
		{File: writeFile(t, "n.toml", "")},
	} {
		if got := strings.Join(problemsOf(t, src), "\n"); !strings.Contains(got, "node_id: is required") ||
			!strings.Contains(got, "mqtt.broker_address: is required") {
			t.Errorf("%v: embedded though something was said: %s", src, got)
		}
	}
}

func TestOwnBrokerIsTheBroker(t *testing.T) {
	loaded := mustLoad(t, Sources{File: writeFile(t, "n.toml",
		"node_id = \"n\"\n[broker]\nenabled = true\nbind_address = \"::\"\nbind_port = 2000\n")})
	if got := loaded.Config.MQTT.BrokerAddress; got != "tcp://[::1]:2000" {
		t.Errorf("got %s", got)
	}
	if loaded.Embedded {
		t.Error("embedded with a file")
	}
}

func TestPartialAsksForNothing(t *testing.T) {
	if c := mustLoad(t, Sources{Partial: true}).Config; c.NodeID != "" || c.Broker.Enabled {
		t.Errorf("got %v", c)
	}
	if got := problemsOf(t, Sources{Partial: true, Environ: []string{"MERKLE_KV_NETWORK_BIND_PORT=0"}}); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestAllProblemsComeAtOnce(t *testing.T) {
	file := writeFile(t, "n.toml", `node_id = "a b"
colour = "red"
[network]
bind_prt = 7878
bind_port = 70000
max_connections = 1.5
bind_address = "localhost"
idle_timeout = -1
[mqtt]
keep_alive = "60"
clean_session = 1
[anti_entropy]
peer_list = "a:1"
[logging]
level = "loud"
[storage]
memory_limit_mb = 9223372036854775807
`)
	got := problemsOf(t, Sources{
		File:    file,
		Environ: []string{"MERKLE_KV_STORAGE_FSYNC=often", "MERKLE_KV_BIND_PORT=1", "MERKLE_KV_BROKER_ENABLED=yes"},
		Flags:   flagSet(t, "--admin-port", "0"),
	})
	want := []string{
		`FILE:2: colour: unknown key; did you mean `,
		`FILE:4: network.bind_prt: unknown key; did you mean network.bind_port?`,
		`FILE:6: network.max_connections: must be a whole number, as in 1000, not a number with a fraction`,
		`FILE:10: mqtt.keep_alive: must be a whole number, as in 60, not a string`,
		`FILE:11: mqtt.clean_session: must be true or false, without quotes, not a whole number`,
		`FILE:13: anti_entropy.peer_list: must be a list of strings, as in ["one", "two"], not a string`,
		`MERKLE_KV_BIND_PORT: unknown variable; did you mean MERKLE_KV_ADMIN_BIND_PORT?`,
		`MERKLE_KV_BROKER_ENABLED: broker.enabled: "yes" is neither true nor false`,
		`FILE:1: node_id: "a b" has ' ' in it; A-Z a-z 0-9 . _ - are valid`,
		`FILE:7: network.bind_address: "localhost" is a name, not an IP address; write 127.0.0.1 or ::1`,
		`FILE:5: network.bind_port: 70000 is not between 1 and 65535`,
		`FILE:8: network.idle_timeout: -1 is not between 0 and 3153600000 s`,
		`FILE:17: storage.memory_limit_mb: 9223372036854775807 is not between 1 and 1073741824 MiB`,
		`MERKLE_KV_STORAGE_FSYNC: storage.fsync: "often" is none of always, interval, never`,
		`FILE:15: logging.level: "loud" is none of trace, debug, info, warn, error`,
		`--admin-port: admin.bind_port: 0 is not between 1 and 65535`,
		`FILE: mqtt.broker_address: is required, as in tcp://localhost:1883, unless broker.enabled is true`,
	}
	if len(got) != len(want) {
		t.Fatalf("%d problems, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d is\n  %s\nwant\n  %s", i, got[i], want[i])
		}
	}
}

func TestNotices(t *testing.T) {
	loaded := mustLoad(t, Sources{File: writeFile(t, "n.toml",
		required+"network.reply_style = \"plain\"\n[storage]\npersistence_enabled = true\nfsync = \"never\"\n[security]\ncluster_secret = \"short\"\n")})
	got := strings.Join(loaded.Notices, "\n")
	if len(loaded.Notices) != 2 || !strings.Contains(got, "without effect in this version: network.reply_style") ||
		!strings.Contains(got, "security.cluster_secret is short") {
		t.Errorf("got %q", got)
	}
	if strings.Contains(got, "\"short\"") {
		t.Error("a notice shows a secret")
	}
	if got := mustLoad(t, Sources{File: writeFile(t, "n.toml", required)}).Notices; len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// Whoever says where the data go expects them to be kept.
func TestNoticeOfDataThatAreNotKept(t *testing.T) {
	got := mustLoad(t, Sources{File: writeFile(t, "n.toml", required+"[storage]\ndata_dir = \"/d\"\n")}).Notices
	if len(got) != 1 || !strings.Contains(got[0], "persistence_enabled is false: storage.data_dir") {
		t.Errorf("got %q", got)
	}
}

// Two hosts that are open to each other and both advertise the loopback address
// never find each other.
func TestNoticeOfAnAddressThatNobodyElseCanDial(t *testing.T) {
	for _, tc := range []struct {
		network string
		partial bool
		want    string
	}{
		{`bind_address = "0.0.0.0"`, false, "dial 127.0.0.1:7878, where each finds only itself: set network.advertise_address"},
		{`bind_address = "::"`, false, "dial [::1]:7878"},
		{`bind_address = "0.0.0.0"`, true, ""},
		{"bind_address = \"0.0.0.0\"\nadvertise_address = \"node1\"", false, ""},
		{`bind_address = "10.0.0.1"`, false, ""},
	} {
		loaded := mustLoad(t, Sources{Partial: tc.partial, File: writeFile(t, "n.toml", required+"[network]\n"+tc.network+"\n")})
		got := strings.Join(loaded.Notices, "\n")
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.network, got, tc.want)
		}
	}
}
