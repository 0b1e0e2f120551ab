package config

// Greatest values that make sense; they also keep sums from overflowing.
const (
	maxSeconds = 100 * 365 * 24 * 3600
	maxMiB     = 1 << 30
	maxCount   = 1 << 30
)

// Keys returns the table of all keys, in the order of the documentation.
func Keys() []Key {
	var keys []Key
	for _, section := range [][]Key{
		topKeys(), networkKeys(), mqttKeys(), brokerKeys(), replicationKeys(),
		antiEntropyKeys(), storageKeys(), loggingKeys(), adminKeys(), securityKeys(),
	} {
		keys = append(keys, section...)
	}
	for i := range keys {
		if keys[i].Status == "" {
			keys[i].Status = Now
		}
	}
	return keys
}

func topKeys() []Key {
	return []Key{
		{Name: "node_id", Flag: "node-id", check: checkNodeID,
			Derived: "required; the host name for the embedded default",
			Meaning: "name of this node, unique in the cluster: 1 to 64 of A-Z a-z 0-9 . _ -"},
		{Name: "description", check: checkLine, Meaning: "a note for people"},
	}
}

func networkKeys() []Key {
	return []Key{
		{Name: "network.bind_address", Flag: "bind-address", check: checkIP,
			Meaning: "IP address that the client port binds; 0.0.0.0 or :: opens it to other machines"},
		{Name: "network.bind_port", Kind: Int, Flag: "bind-port", Min: 1, Max: 65535,
			Meaning: "TCP port for clients and peers"},
		{Name: "network.advertise_address", Flag: "advertise-address", check: checkHostPort,
			Derived: "what is bound",
			Meaning: "host:port at which other nodes reach this one; without a port it is bind_port"},
		{Name: "network.max_connections", Kind: Int, Min: 1, Max: maxCount, Reloadable: true,
			Meaning: "clients connected at one time; eight more connections are kept for peers"},
		{Name: "network.connection_timeout", Kind: Int, Unit: "s", Min: 1, Max: maxSeconds, Reloadable: true,
			Meaning: "bounds finishing a request that has begun, and writing a reply; never ends an idle connection"},
		{Name: "network.idle_timeout", Kind: Int, Unit: "s", Max: maxSeconds, Reloadable: true,
			Meaning: "ends a connection that sends nothing for so long; 0 never does"},
		{Name: "network.max_request_bytes", Kind: Int, Unit: "bytes", Min: 1024, Max: 16 << 20,
			Meaning: "greatest request"},
		{Name: "network.reply_style", Choices: []string{"plain", "tagged"}, Status: Later,
			Meaning: "style in which text replies begin"},
	}
}

func mqttKeys() []Key {
	return []Key{
		{Name: "mqtt.broker_address", Flag: "broker-address", check: checkBroker,
			Derived: "required unless broker.enabled; then, if no broker is named, the in-process one",
			Meaning: "scheme://host:port of the broker; tcp or mqtt (1883), with TLS ssl, tls or mqtts (8883); tcp without a scheme"},
		{Name: "mqtt.broker_addresses", Kind: List, check: checkBroker,
			Meaning: "further brokers; all of them are used at the same time, each once"},
		{Name: "mqtt.topic_prefix", Flag: "topic-prefix", check: checkTopicPrefix,
			Meaning: "begins every topic; one cluster has one prefix"},
		{Name: "mqtt.client_id", check: checkClientID, Derived: "node_id",
			Meaning: "stem of the MQTT client identifiers, unique at the broker"},
		{Name: "mqtt.username", check: checkLine, Meaning: "user name at the broker"},
		{Name: "mqtt.password", Secret: true, Meaning: "password at the broker"},
		{Name: "mqtt.keep_alive", Kind: Int, Unit: "s", Min: 1, Max: 65535,
			Meaning: "longest silence that the broker accepts"},
		{Name: "mqtt.clean_session", Kind: Bool,
			Meaning: "the broker forgets this node when it disconnects; false subscribes at QoS 1 and lets it queue"},
	}
}

func brokerKeys() []Key {
	return []Key{
		{Name: "broker.enabled", Kind: Bool, Flag: "with-broker",
			Derived: "true for the embedded default",
			Meaning: "run an MQTT broker in this process"},
		{Name: "broker.bind_address", check: checkIP,
			Meaning: "IP address that the in-process broker binds"},
		{Name: "broker.bind_port", Kind: Int, Min: 1, Max: 65535,
			Meaning: "TCP port of the in-process broker"},
		{Name: "broker.users", Kind: List, Secret: true, Reloadable: true, check: checkUser,
			Meaning: "user:password entries; with none, clients may use the topic prefix without authentication"},
	}
}

func replicationKeys() []Key {
	return []Key{
		{Name: "replication.max_clock_drift", Kind: Int, Unit: "s", Min: 1, Max: maxSeconds, Reloadable: true,
			Meaning: "a change stamped further ahead of this node's clock is deferred"},
		{Name: "replication.ring_mb", Kind: Int, Unit: "MiB", Min: 1, Max: maxMiB,
			Meaning: "memory that keeps recent changes for peers that missed them"},
	}
}

func antiEntropyKeys() []Key {
	return []Key{
		{Name: "anti_entropy.enabled", Kind: Bool, Reloadable: true,
			Meaning: "allow repair sessions; without them heads, closed epochs and the fetching of missed changes go on"},
		{Name: "anti_entropy.interval_seconds", Kind: Int, Unit: "s", Min: 1, Max: maxSeconds, Reloadable: true,
			Meaning: "a peer that was not seen to be equal for so long gets a repair session; one that differs gets it at once"},
		{Name: "anti_entropy.peer_discovery_interval", Kind: Int, Unit: "s", Min: 1, Max: maxSeconds, Reloadable: true,
			Meaning: "time between two look-ups of the names in peer_list"},
		{Name: "anti_entropy.max_concurrent_syncs", Kind: Int, Min: 1, Max: 1024, Reloadable: true,
			Meaning: "repair sessions at one time, started here or by peers"},
		{Name: "anti_entropy.max_bytes_per_second", Kind: Int, Unit: "bytes/s", Min: 64 << 10, Max: 1 << 40, OrZero: true, Reloadable: true,
			Meaning: "bounds what repair sessions send; 0 is without a bound"},
		{Name: "anti_entropy.peer_list", Kind: List, Flag: "peer", check: checkHostPort,
			Meaning: "host:port of known peers, port 7878 if none is given; a name with several addresses stands for all of them"},
		{Name: "anti_entropy.tombstone_grace", Kind: Int, Unit: "s", Max: maxSeconds,
			Meaning: "for how long deletions belong to what nodes compare; the same on every node"},
		{Name: "anti_entropy.member_timeout", Kind: Int, Unit: "s", Max: maxSeconds, Status: Later,
			Meaning: "forget a member that is silent for so long; 0 never does"},
	}
}

func storageKeys() []Key {
	return []Key{
		{Name: "storage.memory_limit_mb", Kind: Int, Unit: "MiB", Min: 1, Max: maxMiB, Reloadable: true,
			Meaning: "what clients' writes may fill; replicated changes are applied beyond it"},
		{Name: "storage.persistence_enabled", Kind: Bool, Flag: "persist",
			Meaning: "keep the data on disk, so that they outlive the process and the machine's restart"},
		{Name: "storage.data_dir", Flag: "data-dir", check: checkPath,
			Meaning: "directory that holds the data; made if it is not there, for one node alone"},
		{Name: "storage.fsync", Flag: "fsync", Choices: []string{"always", "interval", "never"},
			Meaning: "what an acknowledged write has behind it: with always it was forced to the disk, together with all that " +
				"waited; with interval it was handed to the system, which outlives a killed process, and is forced to the disk " +
				"within a second; with never it was handed to the system, which writes it when it likes"},
		{Name: "storage.backup_interval_hours", Kind: Int, Unit: "h", Min: 1, Max: 24 * 366, Reloadable: true,
			Meaning: "time between two backups"},
		{Name: "storage.backup_dir", check: checkPath,
			Meaning: "directory that receives backups, best on another disk; empty makes none"},
		{Name: "storage.backup_keep", Kind: Int, Min: 1, Max: maxCount, Reloadable: true,
			Meaning: "backups of this node that are kept; older ones are removed once a new one is whole"},
	}
}

func loggingKeys() []Key {
	return []Key{
		{Name: "logging.level", Flag: "log-level", Reloadable: true,
			Choices: []string{"trace", "debug", "info", "warn", "error"},
			Meaning: "least severity that is logged"},
		{Name: "logging.format", Flag: "log-format", Choices: []string{"json", "text"},
			Meaning: "form of a log record"},
		{Name: "logging.file_path", Flag: "log-file", check: checkPath, Derived: "standard error",
			Meaning: "log file; its directory must exist"},
		{Name: "logging.max_size_mb", Kind: Int, Unit: "MiB", Max: maxMiB,
			Meaning: "size at which the log file is rotated; 0 never rotates"},
		{Name: "logging.max_files", Kind: Int, Min: 1, Max: 1000,
			Meaning: "rotated log files that are kept beside the current one"},
	}
}

func adminKeys() []Key {
	return []Key{
		{Name: "admin.bind_address", Flag: "admin-address", check: checkIP,
			Meaning: "IP address that the HTTP port for operators binds; it asks for no password"},
		{Name: "admin.bind_port", Kind: Int, Flag: "admin-port", Min: 1, Max: 65535,
			Derived: "network.bind_port + 2000",
			Meaning: "TCP port for health, metrics and administration"},
		{Name: "admin.allow_shutdown", Kind: Bool,
			Meaning: "a client's SHUTDOWN stops the node"},
		{Name: "admin.pprof", Kind: Bool,
			Meaning: "serves Go's profiles under /debug/pprof/ on the HTTP port for operators"},
	}
}

func securityKeys() []Key {
	return []Key{
		{Name: "security.cluster_secret", Secret: true,
			Meaning: "authenticates what nodes send to each other; the same on every node"},
	}
}
