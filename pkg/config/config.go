package config

import (
	"strings"
	"time"
)

// Seconds is a time span in whole seconds, the unit of every time span in the
// configuration whose name does not say otherwise.
type Seconds int64

// Duration returns the span as the standard library has it.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Config is everything that a node can be told. Its zero value is of no use:
// begin with Default or Load. It shows no secret however it is printed.
type Config struct {
	// NodeID names this node in the cluster; required, 1 to 64 of
	// A-Z a-z 0-9 . _ -, because it is a level of MQTT topics.
	NodeID string `koanf:"node_id"`
	// Description is for people only.
	Description string `koanf:"description"`

	Network     Network     `koanf:"network"`
	MQTT        MQTT        `koanf:"mqtt"`
	Broker      Broker      `koanf:"broker"`
	Replication Replication `koanf:"replication"`
	AntiEntropy AntiEntropy `koanf:"anti_entropy"`
	Storage     Storage     `koanf:"storage"`
	Logging     Logging     `koanf:"logging"`
	Admin       Admin       `koanf:"admin"`
	Security    Security    `koanf:"security"`
}

// Network is the client port, which peers use too.
type Network struct {
	// BindAddress is the IP address that the listener binds, 127.0.0.1 by
	// default; 0.0.0.0 or :: opens it to other machines.
	BindAddress string `koanf:"bind_address"`
	// BindPort is the TCP port, 1 to 65535, 7878 by default.
	BindPort int `koanf:"bind_port"`
	// AdvertiseAddress is the host:port at which other nodes reach this one;
	// empty, the default, derives it from what is bound, and so does a missing
	// port.
	AdvertiseAddress string `koanf:"advertise_address"`
	// MaxConnections bounds the clients that are connected at one time, 1000 by
	// default. Eight more connections are kept for peers.
	MaxConnections int `koanf:"max_connections"`
	// ConnectionTimeout bounds finishing a request that has begun, and a write
	// to a client, 30 s by default. It never ends an idle connection.
	ConnectionTimeout Seconds `koanf:"connection_timeout"`
	// IdleTimeout ends a connection that has sent nothing for so long; 0, the
	// default, never does.
	IdleTimeout Seconds `koanf:"idle_timeout"`
	// MaxRequestBytes bounds one request, 1 MiB by default, at most 16 MiB
	// of value with its command line. A connection may hold that much memory.
	MaxRequestBytes int `koanf:"max_request_bytes"`
	// ReplyStyle is the style in which text replies begin: plain (default) or
	// tagged.
	ReplyStyle string `koanf:"reply_style"`
}

// MQTT is the way to the broker.
type MQTT struct {
	// BrokerAddress is scheme://host:port of the broker; without a scheme it
	// is tcp. Required unless the in-process broker is on. If it and
	// BrokerAddresses are empty, that one is used.
	BrokerAddress string `koanf:"broker_address"`
	// BrokerAddresses are further brokers, all used at the same time.
	BrokerAddresses []string `koanf:"broker_addresses"`
	// TopicPrefix begins every topic; one cluster has one prefix.
	TopicPrefix string `koanf:"topic_prefix"`
	// ClientID is the stem of the MQTT client identifiers; the node_id by
	// default. Two nodes with one ClientID throw each other off the broker.
	ClientID string `koanf:"client_id"`
	// Username and Password are for the broker; both empty by default.
	Username string `koanf:"username"`
	Password Secret `koanf:"password"`
	// KeepAlive is the longest silence that the broker accepts, 60 s by
	// default. Shorter notices a dead broker sooner and sends more.
	KeepAlive Seconds `koanf:"keep_alive"`
	// CleanSession, true by default, lets the broker forget this node when it
	// disconnects. With false the subscription is QoS 1 and the broker queues.
	CleanSession bool `koanf:"clean_session"`
}

// Broker is the in-process MQTT broker.
type Broker struct {
	// Enabled starts it with the node; false by default.
	Enabled bool `koanf:"enabled"`
	// BindAddress is the IP address that it binds, 127.0.0.1 by default.
	BindAddress string `koanf:"bind_address"`
	// BindPort is its TCP port, 1883 by default.
	BindPort int `koanf:"bind_port"`
	// Users are "user:password" entries. With none, the default, clients may
	// use the topic prefix without authentication.
	Users []Secret `koanf:"users"`
}

// Replication is how changes travel.
type Replication struct {
	// MaxClockDrift is how far ahead of this node's clock a change may be
	// stamped before it is deferred, 60 s by default.
	MaxClockDrift Seconds `koanf:"max_clock_drift"`
	// RingMB is the memory, in MiB, that keeps recent changes for peers that
	// missed them, 16 by default. A larger ring repairs longer gaps cheaply.
	RingMB int `koanf:"ring_mb"`
}

// AntiEntropy is how replicas are compared and repaired.
type AntiEntropy struct {
	// Enabled, true by default, allows sessions. Heads and the fetching of
	// missed changes go on without.
	Enabled bool `koanf:"enabled"`
	// Interval lies between two sessions with a peer, 300 s by default.
	Interval Seconds `koanf:"interval_seconds"`
	// PeerDiscoveryInterval lies between two looks for peers, 600 s by default.
	PeerDiscoveryInterval Seconds `koanf:"peer_discovery_interval"`
	// MaxConcurrentSyncs bounds the sessions of one moment, 3 by default.
	MaxConcurrentSyncs int `koanf:"max_concurrent_syncs"`
	// MaxBytesPerSecond bounds what sessions send, 16 MiB/s by default, so
	// that repair leaves the network to clients; 0 is without a bound. At
	// the least, 64 KiB/s, a value of 16 MiB takes four minutes.
	MaxBytesPerSecond int64 `koanf:"max_bytes_per_second"`
	// PeerList are host:port addresses of known peers, empty by default; a
	// name that resolves to several addresses stands for all of them.
	PeerList []string `koanf:"peer_list"`
	// TombstoneGrace is how long a tombstone is kept at least, 3600 s by
	// default.
	TombstoneGrace Seconds `koanf:"tombstone_grace"`
	// MemberTimeout lets the others forget a member that is silent for so
	// long; 0, the default, never does.
	MemberTimeout Seconds `koanf:"member_timeout"`
}

// Storage is what is kept, and where.
type Storage struct {
	// MemoryLimitMB, in MiB, bounds what clients' writes may fill, 1024 by
	// default. Replicated changes are applied beyond it.
	MemoryLimitMB int `koanf:"memory_limit_mb"`
	// PersistenceEnabled keeps data on disk; false by default.
	PersistenceEnabled bool `koanf:"persistence_enabled"`
	// DataDir is the directory that holds the data, "data" by default. It is for
	// one node alone.
	DataDir string `koanf:"data_dir"`
	// Fsync says what an acknowledged write has behind it. With always, the
	// default, it was forced to the disk. With interval it was handed to the
	// operating system, which outlives the process, and is forced to the disk
	// within a second. With never the system writes it when it likes.
	Fsync string `koanf:"fsync"`
	// BackupInterval lies between two backups, in hours, 24 by default.
	BackupInterval int `koanf:"backup_interval_hours"`
	// BackupDir receives backups; empty, the default, makes none. It needs
	// PersistenceEnabled.
	BackupDir string `koanf:"backup_dir"`
	// BackupKeep is how many backups are kept, 7 by default.
	BackupKeep int `koanf:"backup_keep"`
}

// Logging is what is written about the node's own doings.
type Logging struct {
	// Level is trace, debug, info (default), warn or error.
	Level string `koanf:"level"`
	// Format is json (default) or text.
	Format string `koanf:"format"`
	// FilePath is the log file; empty, the default, is standard error.
	FilePath string `koanf:"file_path"`
	// MaxSizeMB, in MiB, is the size at which the file is rotated, 100 by
	// default; 0 never rotates.
	MaxSizeMB int `koanf:"max_size_mb"`
	// MaxFiles is how many rotated files are kept beside the current one, 5 by
	// default.
	MaxFiles int `koanf:"max_files"`
}

// Admin is the HTTP port for operators.
type Admin struct {
	// BindAddress is the IP address that it binds, 127.0.0.1 by default. It
	// asks for no password: open it only to a network that you trust.
	BindAddress string `koanf:"bind_address"`
	// BindPort is its TCP port; by default network.bind_port + 2000, thus 9878.
	BindPort int `koanf:"bind_port"`
	// AllowShutdown, true by default, lets a client's SHUTDOWN stop the node.
	AllowShutdown bool `koanf:"allow_shutdown"`
	// Pprof serves Go's profiles under /debug/pprof/; false by default.
	Pprof bool `koanf:"pprof"`
}

// Security is what keeps strangers out of the cluster.
type Security struct {
	// ClusterSecret, the same on every node, authenticates what nodes send to
	// each other; empty, the default, authenticates nothing.
	ClusterSecret Secret `koanf:"cluster_secret"`
}

// Default returns the configuration before anything is said about it. It lacks
// what is required (node_id, a broker) and therefore does not validate.
func Default() Config {
	return Config{
		Network: Network{
			BindAddress: "127.0.0.1", BindPort: 7878, MaxConnections: 1000,
			ConnectionTimeout: 30, MaxRequestBytes: 1 << 20, ReplyStyle: "plain",
		},
		MQTT: MQTT{
			BrokerAddresses: []string{}, TopicPrefix: "merkle-kv", KeepAlive: 60, CleanSession: true,
		},
		Broker:      Broker{BindAddress: "127.0.0.1", BindPort: 1883, Users: []Secret{}},
		Replication: Replication{MaxClockDrift: 60, RingMB: 16},
		AntiEntropy: AntiEntropy{
			Enabled: true, Interval: 300, PeerDiscoveryInterval: 600, MaxConcurrentSyncs: 3,
			MaxBytesPerSecond: 16 << 20, PeerList: []string{}, TombstoneGrace: 3600,
		},
		Storage: Storage{
			MemoryLimitMB: 1024, DataDir: "data", Fsync: "always", BackupInterval: 24, BackupKeep: 7,
		},
		Logging: Logging{Level: "info", Format: "json", MaxSizeMB: 100, MaxFiles: 5},
		Admin:   Admin{BindAddress: "127.0.0.1", BindPort: 9878, AllowShutdown: true},
	}
}

// Accounts returns the user names and passwords of Users.
func (b Broker) Accounts() map[string]string {
	accounts := make(map[string]string, len(b.Users))
	for _, entry := range b.Users {
		user, password, _ := strings.Cut(entry.Reveal(), ":")
		accounts[user] = password
	}
	return accounts
}
