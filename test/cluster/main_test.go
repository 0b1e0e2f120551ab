package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	// replyTimeout bounds what a program or the broker takes to answer.
	replyTimeout = 10 * time.Second
	// pollInterval is how often a condition is looked at.
	pollInterval = 50 * time.Millisecond
)

// variant is a cluster that several tests share: each leaves it healthy and whole. It is started by
// the first test that asks.
type variant struct {
	name     string
	settings map[string]string // over those of the compose file

	once    sync.Once
	cluster *Cluster
	skip    string
	err     error
	broken  string // name of the test that left the cluster with a fault
}

// account is the nodes' one at the broker of the secured variant, and secret what they sign with.
const (
	account = "node"
	secret  = "only-for-this-test-and-no-other"
)

var (
	// open is the cluster as it is started with no settings at all.
	open = variant{name: "open"}
	// secured has a secret between the nodes and an account at the broker.
	secured = variant{name: "secured", settings: map[string]string{
		"MERKLE_KV_SECURITY_CLUSTER_SECRET": secret,
		"MERKLE_KV_MQTT_USERNAME":           account,
		"MERKLE_KV_MQTT_PASSWORD":           secret,
		"MERKLE_KV_BROKER_USERS":            account + ":" + secret,
	}}
)

func TestMain(m *testing.M) {
	// The reaper's image cannot be pulled where no registry answers; leftovers are removed by label.
	setDefault("TESTCONTAINERS_RYUK_DISABLED", "true")
	setDefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	code := m.Run()
	for _, v := range []*variant{&open, &secured} {
		if v.cluster == nil {
			continue
		}
		if err := v.cluster.Close(context.Background()); err != nil {
			fmt.Fprintf(os.Stderr, "stop the %s cluster: %v\n", v.name, err)
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

// shared returns the open cluster and sees to it that this test leaves it without a fault. It skips
// where there is no engine or there are no images, except when MKV_TEST_IMAGES=required says that
// there must be.
func shared(t *testing.T) *Cluster {
	t.Helper()
	return open.use(t)
}

func (v *variant) use(t *testing.T) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts containers; not with -short")
	}
	v.once.Do(func() { v.start(t.Context()) })
	switch {
	case v.skip != "":
		lacks(t, v.skip)
	case v.err != nil:
		t.Fatalf("the %s cluster did not start: %v", v.name, v.err)
	case v.broken != "":
		t.Fatalf("%s left the %s cluster with a fault", v.broken, v.name)
	}
	c := v.cluster
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, c)
		}
		if err := c.Restore(context.Background()); err != nil {
			v.broken = t.Name()
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

func (v *variant) start(ctx context.Context) {
	root, err := filepath.Abs("../..")
	if err != nil {
		v.err = err
		return
	}
	if v.skip = missing(ctx); v.skip == "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		settings := images()
		maps.Copy(settings, v.settings)
		v.cluster, v.err = Up(ctx, root, v.name, settings)
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
	must(t, n.Write(want, requests...))
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
