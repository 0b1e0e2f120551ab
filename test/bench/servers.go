package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 20 * time.Second

// errNotInstalled is returned when there is nothing to compare with.
var errNotInstalled = errors.New("redis-server is not installed")

// server is something to be measured: a process and how to talk to it.
type server struct {
	*process
	label   string
	addr    string // of its clients
	admin   string // of its admin HTTP, empty without
	dialect dialect
}

// startRedis starts a Redis that writes nothing to disk.
func startRedis(ctx context.Context, dir string) (*server, error) {
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	s, err := launchRedis(dir, addrs[0], "--appendonly", "no")
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// launchRedis starts a Redis on an address, with its data in dir, that saves
// nothing by itself unless args say so. It does not wait for it.
func launchRedis(dir, addr string, args ...string) (*server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNotInstalled
	}
	argv := append([]string{path, "--bind", "127.0.0.1", "--port", portOf(addr), "--save", "", "--dir", dir}, args...)
	p, err := startProcess(dir, "redis-"+portOf(addr), os.Environ(), argv...)
	if err != nil {
		return nil, err
	}
	return &server{process: p, label: "Redis", addr: addr, dialect: respDialect{}}, nil
}

// ready waits until the server answers a read; on failure it is stopped.
func (s *server) ready(ctx context.Context) error {
	err := s.await(ctx, startTimeout, func() error { return probe(s.addr, s.dialect) })
	if err != nil {
		s.stop()
	}
	return err
}

// probe asks for a key that is not there.
func probe(addr string, d dialect) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := newClient(conn, d)
	r, err := c.do(d.AppendGet(nil, []byte("no-such-key")))
	if err != nil {
		return err
	}
	if r.kind != replyNull {
		return fmt.Errorf("%w: %.100q", errUnexpectedReply, r.body)
	}
	return nil
}

// binary returns the path of merklekv: the given one, or one built in dir.
func binary(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	path := filepath.Join(dir, "merklekv")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "merklekv/cmd/merklekv")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build merklekv (or name one with -bin): %w\n%s", err, out)
	}
	return path, nil
}

// settings are a node's configuration by key, as in "network.bind_port".
type settings map[string]string

// environ returns this process's environment without its own MERKLE_KV_*
// variables, and with the settings.
func (s settings) environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MERKLE_KV_") {
			env = append(env, v)
		}
	}
	for key, value := range s {
		name := strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		env = append(env, "MERKLE_KV_"+name+"="+value)
	}
	return env
}

// nodeSettings are those of a quiet node in a directory of its own.
func nodeSettings(dir, id, client, admin string) settings {
	return settings{
		"node_id":                 id,
		"network.bind_address":    "127.0.0.1",
		"network.bind_port":       portOf(client),
		"admin.bind_address":      "127.0.0.1",
		"admin.bind_port":         portOf(admin),
		"storage.data_dir":        filepath.Join(dir, id),
		"storage.memory_limit_mb": "4096",
		"logging.level":           "warn",
	}
}

// startNode starts one node process.
func startNode(ctx context.Context, bin, dir, client, admin string, set settings) (*server, error) {
	s, err := launchNode(bin, dir, client, admin, set)
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// launchNode starts one node process and does not wait for it.
func launchNode(bin, dir, client, admin string, set settings) (*server, error) {
	p, err := startProcess(dir, set["node_id"], set.environ(), bin, "serve")
	if err != nil {
		return nil, err
	}
	return &server{process: p, label: "MerkleKV", addr: client, admin: admin, dialect: textDialect{}}, nil
}

// startSingle starts one node with its in-process broker.
func startSingle(ctx context.Context, bin, dir string) (*server, error) {
	addrs, err := freeAddrs(3)
	if err != nil {
		return nil, err
	}
	return startNode(ctx, bin, dir, addrs[0], addrs[1], singleSettings(dir, addrs))
}

// singleSettings are those of a node that is alone with its in-process broker, on
// addresses for clients, operators and the broker.
func singleSettings(dir string, addrs []string) settings {
	set := nodeSettings(dir, "bench", addrs[0], addrs[1])
	set["broker.enabled"] = "true"
	set["broker.bind_address"] = "127.0.0.1"
	set["broker.bind_port"] = portOf(addrs[2])
	return set
}
