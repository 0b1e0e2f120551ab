// Package node is the program as a type: it makes the parts, wires them, starts
// them in order and stops them in reverse. It is the only package that sees all
// of them; its adapters are a few lines each.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"merklekv/pkg/admin"
	"merklekv/pkg/antientropy"
	"merklekv/pkg/backup"
	"merklekv/pkg/broker"
	"merklekv/pkg/config"
	"merklekv/pkg/hlc"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
	"merklekv/pkg/server"
	"merklekv/pkg/store"
	"merklekv/pkg/volume"
)

// Options say which node to make.
type Options struct {
	// Config is the node's configuration. Unlike one that is loaded from a file
	// it may have ports 0, which take free ones.
	Config config.Config
	// Version is the program's.
	Version string
	// Logger takes the log of all parts; nil discards it.
	Logger *slog.Logger
	// OwnsProcess says that nothing else of weight runs in this process: the node then
	// sets the memory limit of the Go runtime.
	OwnsProcess bool
}

// Node is one member of a cluster: a replica, the ports through which clients,
// peers and operators reach it, and the way to the others.
type Node struct {
	config   config.Config
	version  string
	logger   *slog.Logger
	started  time.Time
	registry *prometheus.Registry

	ownsProcess bool

	median      *hlc.MedianClock
	clock       *hlc.Clock
	store       *store.Store
	closed      sync.Once // storage is
	server      *server.Server
	admin       *admin.Server
	broker      *broker.Broker // nil unless it runs in-process
	replication *replication.Replicator
	repair      *antientropy.Repairer

	volume    *volume.Volume // nil without persistence
	journal   *disk.Journal  // the same
	backups   *backup.Runner // nil without a backup directory, too
	room      room
	starting  context.Context
	loading   atomic.Pointer[loading] // while the journal is read
	loaded    *antientropy.Loaded     // what was read, for the index
	behind    atomic.Bool             // the disk is slower than what comes from peers
	salvaged  *disk.Report            // of the start, nil unless the journal was damaged
	opened    atomic.Bool             // New has made all parts
	operators *layer                  // the port for operators, which answers from the beginning

	shutdown chan struct{} // holds a token when a client said SHUTDOWN
	fatal    chan error    // capacity 1: why the node must stop
}

// New makes a node: it loads what its journal holds, and then binds its ports. Only
// the port for operators answers from the beginning, so that they see how far the
// loading is. Clients are served by Run; Close releases a node that is never run. A
// New that fails, as when ctx ends, leaves nothing behind.
func New(ctx context.Context, o Options) (_ *Node, err error) {
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		config: o.Config, version: o.Version, logger: logger.With("component", "node", "node_id", o.Config.NodeID),
		started: time.Now(), registry: prometheus.NewRegistry(), shutdown: make(chan struct{}, 1),
		starting: ctx, ownsProcess: o.OwnsProcess, fatal: make(chan error, 1),
	}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	for _, open := range []func(*slog.Logger) error{
		n.openMetrics, n.openAdmin, n.openClock, n.openVolume, n.openStore, n.openBackups, n.heedDiskspace,
		n.openBroker, n.openServer, n.openRepair, n.openReplication,
	} {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start: %w", context.Cause(ctx))
		}
		if err := open(logger); err != nil {
			return nil, err
		}
	}
	n.opened.Store(true)
	return n, nil
}

func (n *Node) openMetrics(*slog.Logger) error {
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		n.buildInfo(),
	} {
		if err := n.registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (n *Node) buildInfo() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "merklekv_build_info", Help: "Always 1; the labels name the node and its version.",
		ConstLabels: prometheus.Labels{"node_id": n.config.NodeID, "version": n.version},
	})
	g.Set(1)
	return g
}

func (n *Node) openClock(*slog.Logger) error {
	n.median = hlc.NewMedianClock(hlc.SystemClock())
	n.clock = hlc.NewClock(n.median.Millis, n.config.Replication.MaxClockDrift.Duration().Milliseconds())
	return nil
}

// openBroker binds the in-process broker, if the node has one. A node that is
// told of no broker uses it; one that is told of some finds it among them.
func (n *Node) openBroker(logger *slog.Logger) error {
	if !n.config.Broker.Enabled {
		return nil
	}
	b, err := broker.New(broker.Options{
		Address: hostPort(n.config.Broker.BindAddress, n.config.Broker.BindPort),
		Prefix:  n.config.MQTT.TopicPrefix, Users: n.config.Broker.Accounts(), Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("open broker: %w", err)
	}
	n.broker = b
	if len(n.config.MQTT.Brokers()) == 0 {
		n.config.MQTT.BrokerAddress = config.Reach(n.config.Broker.BindAddress, b.Addr().(*net.TCPAddr).Port)
	}
	return b.Register(n.registry)
}

func (n *Node) openServer(logger *slog.Logger) error {
	var shutdown func()
	if n.config.Admin.AllowShutdown {
		shutdown = n.requestShutdown
	}
	s, err := server.Listen(server.Options{
		Address: hostPort(n.config.Network.BindAddress, n.config.Network.BindPort),
		Limits:  limits(n.config.Network), MaxRequestBytes: n.config.Network.MaxRequestBytes,
		Version: n.version, Store: n.store, Ready: n.serving, Info: n.info,
		Repair: comparer{n}, Cluster: neighbours{n},
		Shutdown: shutdown, Peer: n.servePeer, Registerer: n.registry, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("open client port: %w", err)
	}
	n.server = s
	return nil
}

func (n *Node) openReplication(logger *slog.Logger) error {
	c := n.config
	r, err := replication.New(replication.Options{
		NodeID: c.NodeID, Prefix: c.MQTT.TopicPrefix, Address: n.advertised(), Version: n.version,
		Secret:   []byte(c.Security.ClusterSecret.Reveal()),
		Params:   n.params(),
		PeerList: c.AntiEntropy.Peers(), DiscoveryInterval: c.AntiEntropy.PeerDiscoveryInterval.Duration(),
		MQTT: replication.MQTTOptions{
			Brokers: c.MQTT.Brokers(), ClientID: c.MQTT.ClientID, Username: c.MQTT.Username,
			Password: c.MQTT.Password.Reveal(), KeepAlive: c.MQTT.KeepAlive.Duration(), CleanSession: c.MQTT.CleanSession,
		},
		Volume: n.volumeID(), Received: n.received(),
		Replica: n.store, Millis: n.median.Millis, Wall: n.median.Wall, MaxDrift: n.maxDrift,
		Closed: n.closedEpochs, Session: n.serveSession, Repairs: func() bool { return n.repair.Limits().Enabled },
		Report: n.median.Report, ReadOnly: n.giveWay, Registerer: n.registry, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("open replication: %w", err)
	}
	n.replication = r
	return nil
}

// params are what nodes must have in common to be comparable.
func (n *Node) params() protocol.PeerParams {
	return protocol.PeerParams{
		EpochMillis: hlc.MillisPerEpoch, HashID: merkle.HashID, TombstoneGrace: uint64(n.config.AntiEntropy.TombstoneGrace),
	}
}

func (n *Node) openAdmin(logger *slog.Logger) error {
	a, err := admin.Listen(admin.Options{
		Address:  hostPort(n.config.Admin.BindAddress, n.config.Admin.BindPort),
		Gatherer: n.registry, Ready: n.checks, API: n.api(), Pprof: n.config.Admin.Pprof, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("open admin port: %w", err)
	}
	n.admin = a
	n.operators = (&layer{name: "admin port", run: a.Serve}).start(n.fail)
	return nil
}

// Addr returns the address of the client port.
func (n *Node) Addr() net.Addr { return n.server.Addr() }

// AdminAddr returns the address of the HTTP port for operators.
func (n *Node) AdminAddr() net.Addr { return n.admin.Addr() }

// BrokerAddr returns the address of the in-process broker, nil without one.
func (n *Node) BrokerAddr() net.Addr {
	if n.broker == nil {
		return nil
	}
	return n.broker.Addr()
}

// Store returns the node's replica.
func (n *Node) Store() *store.Store { return n.store }

// Replication returns the node's replicator.
func (n *Node) Replication() *replication.Replicator { return n.replication }

// Registry returns the node's metrics.
func (n *Node) Registry() *prometheus.Registry { return n.registry }

func (n *Node) requestShutdown() {
	select {
	case n.shutdown <- struct{}{}:
	default:
	}
}

// Reload puts those keys of a new configuration into force that can change while
// the node runs; changed names the keys that differ.
func (n *Node) Reload(c config.Config, changed []string) {
	has := func(key string) bool { return slices.Contains(changed, key) }
	if has("network.max_connections") || has("network.connection_timeout") || has("network.idle_timeout") {
		if err := n.server.SetLimits(limits(c.Network)); err != nil {
			n.logger.Error("network limits stay as they are", "err", err)
		}
	}
	if has("storage.memory_limit_mb") {
		n.store.SetMemoryLimit(int64(c.Storage.MemoryLimitMB) << 20)
	}
	if has("storage.backup_interval_hours") || has("storage.backup_keep") {
		n.reloadBackups(c.Storage)
	}
	if has("replication.max_clock_drift") {
		n.clock.SetMaxDrift(c.Replication.MaxClockDrift.Duration().Milliseconds())
	}
	if slices.ContainsFunc(changed, func(key string) bool { return strings.HasPrefix(key, "anti_entropy.") }) {
		n.repair.SetLimits(repairLimits(c.AntiEntropy))
		n.replication.SetDiscoveryInterval(c.AntiEntropy.PeerDiscoveryInterval.Duration())
	}
	if has("broker.users") && n.broker != nil {
		n.broker.SetUsers(c.Broker.Accounts())
	}
}

// maxDrift returns how far ahead of this node's clock a change may be stamped.
func (n *Node) maxDrift() time.Duration { return time.Duration(n.clock.MaxDrift()) * time.Millisecond }

func limits(c config.Network) server.Limits {
	return server.Limits{
		MaxConnections: c.MaxConnections, ConnectionTimeout: c.ConnectionTimeout.Duration(),
		IdleTimeout: c.IdleTimeout.Duration(),
	}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Close releases what New made. After Run it does nothing.
func (n *Node) Close() {
	if n.server != nil {
		n.server.Close()
	}
	if n.broker != nil {
		_ = n.broker.Close() // nothing was served
	}
	_ = n.closeStorage() // nothing was written since it was loaded
	if n.operators != nil {
		_ = n.operators.stop() // nobody is left to tell
		n.admin.Close()
	}
}

var errShutdown = errors.New("a client said SHUTDOWN")

// advertised returns the host:port at which other nodes are told to dial.
func (n *Node) advertised() string {
	return n.config.Network.Advertised(n.server.Addr().(*net.TCPAddr).Port)
}

// giveWay ends clients' writes while another node of the same node_id takes over.
func (n *Node) giveWay(why string) { n.store.SetReadOnly("rival", why) }

func (n *Node) servePeer(ctx context.Context, conn net.Conn, rest []byte) {
	n.replication.ServePeer(ctx, conn, rest)
}
