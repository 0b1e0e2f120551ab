package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// updatesTopic is where the nodes of the compose file publish, by configs/docker.toml.
const updatesTopic = "merkle-kv/updates"

// The walk-through of the README, with the tools that it names.
func TestWalkThroughWithNetcat(t *testing.T) {
	netcat := tool(t, "nc")
	c := shared(t)
	if got := pipe(t, netcat, c.Node(1), `SET user:alice "Alice Johnson"`); got != "OK" {
		t.Fatalf("SET through nc answered %q, want OK", got)
	}
	for _, n := range c.All() {
		Eventually(t, "nc reads the value from "+n.Name, func() error {
			if got := pipe(t, netcat, n, "GET user:alice"); got != `"Alice Johnson"` {
				return fmt.Errorf("GET through nc answered %q", got)
			}
			return nil
		})
	}
}

func TestWalkThroughWithMosquitto(t *testing.T) {
	subscriber := tool(t, "mosquitto_sub")
	c := shared(t)
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	var output lockedBuffer
	command := exec.CommandContext(ctx, subscriber,
		"-h", "localhost", "-p", strconv.Itoa(c.BrokerPort()), "-t", "merkle-kv/#", "-F", "%t")
	command.Stdout, command.Stderr = &output, &output
	must(t, command.Start())
	defer func() {
		cancel()
		_ = command.Wait() // ended by us: its exit code says nothing
	}()
	// A subscription says nowhere that it stands, so writes go on until one is seen.
	Eventually(t, "mosquitto_sub shows a message on "+updatesTopic, func() error {
		write(t, c.Node(1), "OK", "SET test:mqtt success")
		if !strings.Contains(output.String(), updatesTopic+"\n") {
			return fmt.Errorf("it printed %q", output.String())
		}
		return nil
	})
}

// tool finds a program; without it there is no test, or a failed one where all is required.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lacks(t, name+" is not installed; .ci/run installs what the tests need")
	}
	return path
}

// ending records how a test would have ended.
type ending struct {
	testing.TB
	skipped, failed bool
}

func (e *ending) Helper()      {}
func (e *ending) Skip(...any)  { e.skipped = true }
func (e *ending) Fatal(...any) { e.failed = true; runtime.Goexit() }

// A test that is skipped on the machine which must show everything shows nothing.
func TestAMissingToolFailsWhereAllIsRequired(t *testing.T) {
	for value, want := range map[string]ending{"required": {failed: true}, "": {skipped: true}} {
		t.Setenv("MKV_TEST_IMAGES", value)
		var got ending
		done := make(chan struct{})
		go func() {
			defer close(done)
			tool(&got, "no-such-program")
		}()
		<-done
		if got != want {
			t.Errorf("MKV_TEST_IMAGES=%q: %+v, want %+v", value, got, want)
		}
	}
}

// pipe sends one line through nc, as a shell pipe does, and returns the line that comes back. -N
// closes the sending side at the end of the input, or Debian's nc would wait for ever.
func pipe(t *testing.T, netcat string, n Node, line string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(n.Address)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), replyTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, netcat, "-N", host, port)
	command.Stdin = strings.NewReader(line + "\n")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s | nc -N %s %s: %v: %s", line, host, port, err, output)
	}
	return strings.TrimRight(string(output), "\r\n")
}

// seenOnBroker waits until writes on the node are published on the broker.
func seenOnBroker(t *testing.T, c *Cluster, from Node) {
	t.Helper()
	seen := make(chan struct{}, 1)
	subscriber := connect(t, c, "watch-"+from.Name)
	defer subscriber.Disconnect(0)
	marker := []byte("published:" + from.Name)
	token := subscriber.Subscribe(updatesTopic, 0, func(_ mqtt.Client, m mqtt.Message) {
		if !bytes.Contains(m.Payload(), marker) {
			return
		}
		select {
		case seen <- struct{}{}:
		default:
		}
	})
	if !token.WaitTimeout(replyTimeout) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	Eventually(t, "a write on "+from.Name+" is published", func() error {
		write(t, from, "OK", "SET "+string(marker)+" yes")
		select {
		case <-seen:
			return nil
		default:
			return fmt.Errorf("no message with %s on %s", marker, updatesTopic)
		}
	})
}

// lockedBuffer is a buffer that a process fills while a test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
