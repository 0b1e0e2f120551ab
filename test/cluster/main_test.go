package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/goleak"
)

const (
	// eventually bounds every wait for the cluster to agree. It is far above what is needed, for
	// machines that do much else; no test measures time.
	eventually = 60 * time.Second
	// pollInterval is how often a condition is looked at.
	pollInterval = 50 * time.Millisecond
)

// running is the one cluster that all tests share: each leaves it healthy and whole.
var running struct {
	once    sync.Once
	cluster *Cluster
	skip    string
	err     error
	broken  string // name of the test that left the cluster with a fault
}

func TestMain(m *testing.M) {
	// The reaper's image cannot be pulled where no registry answers; leftovers are removed by label.
	setDefault("TESTCONTAINERS_RYUK_DISABLED", "true")
	setDefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	code := m.Run()
	if running.cluster != nil {
		if err := running.cluster.Close(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "stop the cluster:", err)
			code = max(code, 1)
		}
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setDefault(name, value string) {
	if _, set := os.LookupEnv(name); !set {
		os.Setenv(name, value)
	}
}

// shared returns the cluster, started by the first test that asks, and sees to it that this test
// leaves it without a fault. It skips where there is no engine or there are no images, except when
// MKV_TEST_IMAGES=required says that there must be.
func shared(t *testing.T) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts containers; not with -short")
	}
	running.once.Do(func() { startShared(t.Context()) })
	switch {
	case running.skip != "":
		lacks(t, running.skip)
	case running.err != nil:
		t.Fatal("the cluster did not start: ", running.err)
	case running.broken != "":
		t.Fatalf("%s left the cluster with a fault", running.broken)
	}
	c := running.cluster
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, c)
		}
		if err := c.Restore(context.Background()); err != nil {
			running.broken = t.Name()
			t.Error("the cluster is not whole after this test: ", err)
		}
	})
	return c
}

// required says that nothing may be missing of what the tests need: images, engine, programs.
func required() bool { return os.Getenv("MKV_TEST_IMAGES") == "required" }

// lacks skips the test for what the machine does not have, or fails it where all is required.
func lacks(t testing.TB, what string) {
	t.Helper()
	if required() {
		t.Fatal(what)
	}
	t.Skip(what)
}

func startShared(ctx context.Context) {
	root, err := filepath.Abs("../..")
	if err != nil {
		running.err = err
		return
	}
	if running.skip = missing(ctx); running.skip == "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		running.cluster, running.err = Up(ctx, root, images())
	}
}

// images are the names of the images under test, as the compose file's variables.
func images() map[string]string {
	names := map[string]string{"MKV_IMAGE": "merklekv/node:local", "MKV_BROKER_IMAGE": "merklekv/broker:local"}
	for variable := range names {
		if name := os.Getenv(variable); name != "" {
			names[variable] = name
		}
	}
	return names
}

// missing says what a start of the containers lacks, or nothing.
func missing(ctx context.Context) string {
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return "no Docker client: " + err.Error()
	}
	defer engine.Close()
	if _, err := engine.Ping(ctx, client.PingOptions{}); err != nil {
		return "no Docker engine answers: " + err.Error()
	}
	for _, name := range images() {
		if _, err := engine.ImageInspect(ctx, name); err != nil {
			return fmt.Sprintf("no image %s (%v); build it: make image", name, err)
		}
	}
	return ""
}

func showLogs(t *testing.T, c *Cluster) {
	for _, service := range c.Services() {
		logs, err := c.Logs(context.Background(), service, 30)
		t.Logf("--- %s (%v)\n%s", service, err, logs)
	}
}

// Eventually polls until cond returns nil; then it fails with the last error.
func Eventually(t *testing.T, what string, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", eventually, what, errors.Join(err, t.Context().Err()))
		case <-tick.C:
		}
	}
}

// mustDo sends one request and fails the test when there is no reply.
func mustDo(t *testing.T, n Node, request string) string {
	t.Helper()
	reply, err := n.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return reply
}

// write sends requests that must all be answered by the same line.
func write(t *testing.T, n Node, want string, requests ...string) {
	t.Helper()
	replies, err := n.DoAll(requests...)
	if err != nil {
		t.Fatal(err)
	}
	for i, reply := range replies {
		if reply != want {
			t.Fatalf("%s answered %q to %q, want %q", n.Name, reply, requests[i], want)
		}
	}
}

// holds waits until the node answers GET with exactly these values; nil means no value.
func holds(t *testing.T, n Node, values map[string]*string) {
	t.Helper()
	keys := make([]string, 0, len(values))
	requests := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
		requests = append(requests, "GET "+key)
	}
	Eventually(t, n.Name+" holds what was written", func() error {
		replies, err := n.DoAll(requests...)
		if err != nil {
			return err
		}
		for i, key := range keys {
			want := "(null)"
			if values[key] != nil {
				want = *values[key]
			}
			if replies[i] != want {
				return fmt.Errorf("GET %s on %s is %q, want %q", key, n.Name, replies[i], want)
			}
		}
		return nil
	})
}

// must fails the test when an action on the cluster fails.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
