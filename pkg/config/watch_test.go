package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
)

// watched is a watcher at work and what it has said so far.
type watched struct {
	*Watcher
	path string

	mu      sync.Mutex
	changes []Change
	errs    []error
}

// watch starts a watcher over a new file; its end is waited for.
func watch(t *testing.T, interval time.Duration, text string, environ ...string) *watched {
	t.Helper()
	w := &watched{path: writeFile(t, "n.toml", required+text)}
	src := Sources{File: w.path, Environ: environ}
	w.Watcher = NewWatcher(src, mustLoad(t, src), interval, func(c Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changes = append(w.changes, c)
	}, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.errs = append(w.errs, err)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

// replace puts another file in the place of the watched one, as editors do.
func (w *watched) replace(t *testing.T, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(w.path), "next")
	if err := os.WriteFile(next, []byte(required+text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, w.path); err != nil {
		t.Fatal(err)
	}
}

// await returns the changes and errors once there are so many.
func (w *watched) await(t *testing.T, changes, errs int) ([]Change, []error) {
	t.Helper()
	reached := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.changes) >= changes && len(w.errs) >= errs
	}
	poll.Until(t, 10*time.Second, reached, changes, " changes and ", errs, " errors")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.changes) != changes || len(w.errs) != errs {
		t.Fatalf("%d changes and %d errors, want %d and %d: %v", len(w.changes), len(w.errs), changes, errs, w.errs)
	}
	return slices.Clone(w.changes), slices.Clone(w.errs)
}

const quick = time.Millisecond

func TestFileChangesComeIntoForce(t *testing.T) {
	w := watch(t, quick, "logging.level = \"info\"\n")
	w.replace(t, "logging.level = \"debug\"\nnetwork.bind_port = 1000\nnetwork.idle_timeout = 5\n")
	changes, _ := w.await(t, 1, 0)
	c := changes[0]
	if want := []string{"network.idle_timeout", "logging.level"}; !slices.Equal(c.Changed, want) {
		t.Errorf("changed %q, want %q", c.Changed, want)
	}
	if want := []string{"network.bind_port", "admin.bind_port"}; !slices.Equal(c.NeedRestart, want) {
		t.Errorf("need a restart %q, want %q", c.NeedRestart, want)
	}
	now := w.Current()
	if now != c.New || now.Config.Logging.Level != "debug" || now.Config.Network.BindPort != 7878 {
		t.Errorf("in force: %v", now.Config)
	}
	if got := now.Origins["logging.level"]; got.Line != 3 || now.Origins["network.bind_port"].Layer != FromDefault {
		t.Errorf("origins %v, %v", got, now.Origins["network.bind_port"])
	}
	if c.Old.Config.Logging.Level != "info" {
		t.Error("the old configuration was written to")
	}

	// What needs a restart is said again until it is undone or there is one.
	w.Trigger()
	changes, _ = w.await(t, 2, 0)
	if c := changes[1]; len(c.Changed) != 0 || len(c.NeedRestart) != 2 {
		t.Errorf("second time %q, %q", c.Changed, c.NeedRestart)
	}
}

func TestBadFileLeavesTheConfigurationInForce(t *testing.T) {
	w := watch(t, quick, "logging.level = \"warn\"\n")
	before := w.Current()
	w.replace(t, "logging.level = \"loud\"\n")
	if _, errs := w.await(t, 0, 1); !IsConfigError(errs[0]) {
		t.Errorf("got %v", errs[0])
	}
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.await(t, 0, 2)
	if w.Current() != before {
		t.Error("a bad file has changed something")
	}
	w.replace(t, "logging.level = \"error\"\n")
	w.await(t, 1, 2)
	if got := w.Current().Config.Logging.Level; got != "error" {
		t.Errorf("level %s", got)
	}
}

func TestTriggerReloadsWithoutAChangeOfTheFile(t *testing.T) {
	w := watch(t, time.Hour, "")
	w.Trigger()
	changes, _ := w.await(t, 1, 0)
	if c := changes[0]; len(c.Changed)+len(c.NeedRestart) != 0 {
		t.Errorf("got %v", c)
	}
	w.replace(t, "logging.level = \"debug\"\n")
	w.Trigger()
	changes, _ = w.await(t, 2, 0)
	if got := changes[1].Changed; !slices.Equal(got, []string{"logging.level"}) {
		t.Errorf("got %q", got)
	}
}

func TestSecretFilesAreWatched(t *testing.T) {
	users := writeFile(t, "users", "a:1\n")
	w := watch(t, quick, "", "MERKLE_KV_BROKER_USERS_FILE="+users)
	if err := os.WriteFile(users, []byte("a:1\nb:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changes, _ := w.await(t, 1, 0)
	if got := changes[0].New.Config.Broker.Accounts(); !slices.Equal(changes[0].Changed, []string{"broker.users"}) || got["b"] != "2" {
		t.Errorf("changed %q", changes[0].Changed)
	}
}

func TestChangeBetweenLoadAndRunCounts(t *testing.T) {
	path := writeFile(t, "n.toml", required)
	src := Sources{File: path}
	loaded := mustLoad(t, src)
	if err := os.WriteFile(path, []byte(required+"logging.level = \"debug\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var got []string
	NewWatcher(src, loaded, quick, func(c Change) { got = c.Changed; cancel() }, func(err error) {
		t.Error(err)
		cancel()
	}).Run(ctx)
	if !slices.Equal(got, []string{"logging.level"}) {
		t.Errorf("changed %q", got)
	}
}

// Old and new values are valid each for themselves; together they would lock the
// node out of its own broker.
func TestMixtureThatDoesNotFitIsRefused(t *testing.T) {
	own := "broker.enabled = true\nmqtt.broker_addresses = [\"127.0.0.1\"]\n"
	w := watch(t, quick, own+"broker.users = [\"u:1\"]\nmqtt.username = \"u\"\nmqtt.password = \"1\"\n")
	w.replace(t, own+"broker.users = [\"u:2\"]\nmqtt.username = \"u\"\nmqtt.password = \"2\"\n")
	_, errs := w.await(t, 0, 1)
	if w.Current().Config.Broker.Accounts()["u"] != "1" || !IsConfigError(errs[0]) {
		t.Errorf("got %v", errs[0])
	}
}
