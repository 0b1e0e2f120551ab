package config

import (
	"slices"
	"strings"
	"testing"

	"merklekv/pkg/internal/mqttlink"
)

// with returns a valid configuration after a change.
func with(change func(*Config)) Config {
	c := Default()
	c.NodeID, c.MQTT.BrokerAddress = "n", "tcp://b:1883"
	change(&c)
	return c
}

// rule is a change to a valid configuration and what is wrong after it.
type rule struct {
	key, want string // of the only problem; both empty if there is none
	change    func(*Config)
}

func TestRulesOfTheWayToOthers(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []rule{
		{"", "", func(*Config) {}},
		{"node_id", "is required", func(c *Config) { c.NodeID = "" }},
		{"", "", func(c *Config) { c.NodeID = "Az09._-" }},
		{"", "", func(c *Config) { c.NodeID = long[:64] }},
		{"node_id", "has 65 characters", func(c *Config) { c.NodeID = long[:65] }},
		{"node_id", `has '/' in it`, func(c *Config) { c.NodeID = "a/b" }},
		{"node_id", `has 'ü' in it`, func(c *Config) { c.NodeID = "ü" }},
		{"description", "control character", func(c *Config) { c.Description = "a\nb" }},
		{"description", "not valid UTF-8", func(c *Config) { c.Description = "\xff" }},
		{"", "", func(c *Config) { c.Network.BindAddress = "::1" }},
		{"", "", func(c *Config) { c.Network.BindAddress = "fe80::1%eth0" }},
		{"network.bind_address", "is not an IP address", func(c *Config) { c.Network.BindAddress = "1.2.3" }},
		{"network.bind_address", "write 127.0.0.1", func(c *Config) { c.Network.BindAddress = "localhost" }},
		{"network.bind_address", "must not be empty", func(c *Config) { c.Network.BindAddress = "" }},
		{"network.bind_port", "0 is not between 1 and 65535", func(c *Config) { c.Network.BindPort = 0 }},
		{"network.bind_port", "65536 is not", func(c *Config) { c.Network.BindPort = 65536 }},
		{"", "", func(c *Config) { c.Network.AdvertiseAddress = "node1.cluster:7878" }},
		{"network.advertise_address", "has a port that is not", func(c *Config) { c.Network.AdvertiseAddress = "a:0" }},
		{"network.reply_style", "is none of plain, tagged", func(c *Config) { c.Network.ReplyStyle = "PLAIN" }},
		{"network.max_request_bytes", "not between 1024 and 16777216 bytes", func(c *Config) { c.Network.MaxRequestBytes = 1 << 25 }},
		{"", "", func(c *Config) { c.AntiEntropy.MaxBytesPerSecond = 0 }},
		{"", "", func(c *Config) { c.AntiEntropy.MaxBytesPerSecond = 65536 }},
		{"anti_entropy.max_bytes_per_second", "65535 is neither 0 nor between 65536 and 1099511627776 bytes/s",
			func(c *Config) { c.AntiEntropy.MaxBytesPerSecond = 65535 }},
		{"anti_entropy.max_bytes_per_second", "-1 is neither 0", func(c *Config) { c.AntiEntropy.MaxBytesPerSecond = -1 }},
		{"mqtt.broker_address", "is required", func(c *Config) { c.MQTT.BrokerAddress = "" }},
		{"", "", func(c *Config) { c.MQTT.BrokerAddress, c.MQTT.BrokerAddresses = "", []string{"b"} }},
		{"", "", func(c *Config) { c.MQTT.BrokerAddress, c.Broker.Enabled = "", true }},
		{"mqtt.broker_address", "has a scheme that is none of", func(c *Config) { c.MQTT.BrokerAddress = "http://b" }},
		{"mqtt.broker_address", "holds a user name", func(c *Config) { c.MQTT.BrokerAddress = "tcp://u:p@b" }},
		{"mqtt.broker_addresses", "entry 2 is empty", func(c *Config) { c.MQTT.BrokerAddresses = []string{"a", ""} }},
		{"", "", func(c *Config) { c.MQTT.TopicPrefix = "a/b" }},
		{"mqtt.topic_prefix", "must not be empty", func(c *Config) { c.MQTT.TopicPrefix = "" }},
		{"mqtt.topic_prefix", "wildcards", func(c *Config) { c.MQTT.TopicPrefix = "a/+" }},
		{"mqtt.topic_prefix", "wildcards", func(c *Config) { c.MQTT.TopicPrefix = "#" }},
		{"mqtt.topic_prefix", "control character", func(c *Config) { c.MQTT.TopicPrefix = "a\x00" }},
		{"mqtt.topic_prefix", "begins with $", func(c *Config) { c.MQTT.TopicPrefix = "$SYS" }},
		{"mqtt.topic_prefix", "empty level", func(c *Config) { c.MQTT.TopicPrefix = "/a" }},
		{"mqtt.topic_prefix", "empty level", func(c *Config) { c.MQTT.TopicPrefix = "a/" }},
		{"mqtt.topic_prefix", "empty level", func(c *Config) { c.MQTT.TopicPrefix = "a//b" }},
		{"mqtt.topic_prefix", "has 300 bytes", func(c *Config) { c.MQTT.TopicPrefix = long }},
		{"mqtt.client_id", "has 300 bytes", func(c *Config) { c.MQTT.ClientID = long }},
		{"mqtt.password", "needs mqtt.username", func(c *Config) { c.MQTT.Password = "p" }},
		{"mqtt.keep_alive", "65536 is not between 1 and 65535 s", func(c *Config) { c.MQTT.KeepAlive = 65536 }},
	} {
		checkProblem(t, with(tc.change), tc.key, tc.want)
	}
}

func TestRulesOfTheRest(t *testing.T) {
	for _, tc := range []rule{
		{"broker.users", "not of the form user:password", func(c *Config) { c.Broker.Users = []Secret{"u"} }},
		{"broker.users", "not of the form user:password", func(c *Config) { c.Broker.Users = []Secret{"u:"} }},
		{"broker.users", "entry 2 names a user", func(c *Config) { c.Broker.Users = []Secret{"u:1", "u:2"} }},
		{"mqtt.username", "cannot use its own broker", func(c *Config) {
			c.Broker.Enabled, c.Broker.Users, c.MQTT.BrokerAddress = true, []Secret{"u:1"}, "127.0.0.1"
		}},
		{"mqtt.username", "cannot use its own broker", func(c *Config) {
			c.Broker.Enabled, c.Broker.Users, c.MQTT.BrokerAddress = true, []Secret{"u:1"}, "mqtt://localhost"
		}},
		{"", "", func(c *Config) {
			c.Broker.Enabled, c.Broker.Users, c.MQTT.BrokerAddress = true, []Secret{"u:1"}, "127.0.0.1"
			c.MQTT.Username, c.MQTT.Password = "u", "1"
		}},
		{"anti_entropy.peer_list", "entry 1 is empty", func(c *Config) { c.AntiEntropy.PeerList = []string{""} }},
		{"anti_entropy.peer_list", `"a b" has ' ' in its host name`, func(c *Config) { c.AntiEntropy.PeerList = []string{"ok", "a b"} }},
		{"storage.fsync", "is none of always, interval, never", func(c *Config) { c.Storage.Fsync = "x" }},
		{"storage.fsync", "must not be empty", func(c *Config) { c.Storage.Fsync = "" }},
		{"storage.data_dir", "NUL", func(c *Config) { c.Storage.DataDir = "\x00" }},
		{"storage.backup_dir", "needs storage.persistence_enabled", func(c *Config) { c.Storage.BackupDir = "b" }},
		{"storage.backup_dir", "is storage.data_dir too", func(c *Config) {
			c.Storage.PersistenceEnabled, c.Storage.BackupDir = true, "./data/"
		}},
		{"", "", func(c *Config) { c.Storage.PersistenceEnabled, c.Storage.BackupDir = true, "data/backups" }},
		{"storage.backup_interval_hours", "0 is not between", func(c *Config) { c.Storage.BackupInterval = 0 }},
		{"logging.level", "is none of trace", func(c *Config) { c.Logging.Level = "warning" }},
		{"admin.bind_port", "7878 is the port of network.bind_port already", func(c *Config) { c.Admin.BindPort = 7878 }},
		{"admin.bind_port", "7878 is the port of", func(c *Config) { c.Admin.BindPort, c.Admin.BindAddress = 7878, "0.0.0.0" }},
		{"", "", func(c *Config) { c.Admin.BindPort, c.Admin.BindAddress = 7878, "127.0.0.2" }},
		{"broker.bind_port", "9878 is the port of admin.bind_port", func(c *Config) { c.Broker.Enabled, c.Broker.BindPort = true, 9878 }},
	} {
		checkProblem(t, with(tc.change), tc.key, tc.want)
	}
}

// checkProblem expects one problem, or none when want is empty.
func checkProblem(t *testing.T, c Config, key, want string) {
	t.Helper()
	err := c.Validate()
	if want == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	e, ok := err.(*Error)
	if !ok || len(e.Problems) != 1 || e.Problems[0].Key != key || !strings.Contains(e.Problems[0].What, want) {
		t.Errorf("got %v, want the one problem %s: %s", err, key, want)
	}
}

func TestDefaultLacksOnlyWhatIsRequired(t *testing.T) {
	e, ok := Default().Validate().(*Error)
	if !ok || len(e.Problems) != 2 || e.Problems[0].Key != "node_id" || e.Problems[1].Key != "mqtt.broker_address" {
		t.Errorf("got %v", e)
	}
}

func TestLongValuesAreCutInMessages(t *testing.T) {
	err := with(func(c *Config) { c.Network.BindAddress = strings.Repeat("x", 10_000) }).Validate()
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
}

func TestBrokers(t *testing.T) {
	for _, bad := range []string{"http://b", "ws://b", "tcp://", "b:0", "tcp://u@b"} {
		if got := (MQTT{BrokerAddress: bad}).Brokers(); len(got) > 0 || checkBroker(bad) == nil {
			t.Errorf("%s gives %q", bad, got)
		}
	}
	union := MQTT{BrokerAddress: "a", BrokerAddresses: []string{
		"ssl://b", "tcp://A:1883", "mqtt://a/", "tls://b:8883", "mqtts://b", "localhost", "127.0.0.1", "[::1]:1883", "a:1884",
	}}.Brokers()
	if want := []string{"tcp://a:1883", "ssl://b:8883", "tcp://localhost:1883", "tcp://a:1884"}; !slices.Equal(union, want) {
		t.Errorf("union %q, want %q", union, want)
	}
}

// What the configuration lets through, the link to the broker takes.
func TestEveryAcceptedSchemeIsOneThatTheLinkTakes(t *testing.T) {
	for _, scheme := range []string{"", "tcp", "mqtt", "ssl", "tls", "mqtts", "ws", "wss", "tcps", "mqtt+ssl", "http", "unix"} {
		given := "h:1"
		if scheme != "" {
			given = scheme + "://h:1"
		}
		_, err := mqttlink.New(mqttlink.Options{BrokerURL: given, ClientID: "c"})
		if got := checkBroker(given); (got == nil) != (err == nil) {
			t.Errorf("%s: the configuration says %v, the link %v", given, got, err)
		}
	}
}

func TestPeers(t *testing.T) {
	got := AntiEntropy{PeerList: []string{"a", "b:1", "a:7878", "::1", "[::1]:2", "10.0.0.1", "a b"}}.Peers()
	want := []string{"a:7878", "b:1", "[::1]:7878", "[::1]:2", "10.0.0.1:7878"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAdvertised(t *testing.T) {
	for _, tc := range []struct{ bind, advertise, want string }{
		{"127.0.0.1", "", "127.0.0.1:5"}, {"0.0.0.0", "", "127.0.0.1:5"}, {"::", "", "[::1]:5"}, {"10.0.0.1", "", "10.0.0.1:5"},
		{"0.0.0.0", "node1", "node1:5"}, {"0.0.0.0", "node1:9", "node1:9"}, {"::", "fd00::1", "[fd00::1]:5"},
	} {
		if got := (Network{BindAddress: tc.bind, AdvertiseAddress: tc.advertise}).Advertised(5); got != tc.want {
			t.Errorf("%s and %q: %s, want %s", tc.bind, tc.advertise, got, tc.want)
		}
	}
}
