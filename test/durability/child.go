package durability

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"merklekv/test/nodes"
)

// startWithin bounds a start, far above what one takes.
const startWithin = 30 * time.Second

// child is a node in a process of its own.
type child struct {
	nodes.Node
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// site is where a node lives: its program, its data, and what it logs.
type site struct {
	program string
	dir     string // holds data and logs
	fsync   string
	starts  int
}

func (s *site) data() string { return filepath.Join(s.dir, "data") }

// errPortTaken says that another process was faster.
var errPortTaken = errors.New("a port was taken by another process meanwhile")

// launch starts the program on free ports and does not wait until it serves.
func (s *site) launch() (*child, error) {
	ports, err := nodes.FreePorts([]string{"clients", "admin", "broker"})
	if err != nil {
		return nil, err
	}
	s.starts++
	c := &child{
		Node: nodes.Node{
			Name:      "child",
			Address:   fmt.Sprintf("127.0.0.1:%d", ports["clients"]),
			AdminBase: fmt.Sprintf("http://127.0.0.1:%d", ports["admin"]),
		},
		log:  filepath.Join(s.dir, fmt.Sprintf("start-%d.log", s.starts)),
		done: make(chan struct{}),
	}
	output, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("log of the node: %w", err)
	}
	defer output.Close()
	c.cmd = exec.Command(s.program)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = s.dir, output, output
	c.cmd.Env = []string{
		"MERKLE_KV_NODE_ID=child",
		fmt.Sprintf("MERKLE_KV_NETWORK_BIND_PORT=%d", ports["clients"]),
		fmt.Sprintf("MERKLE_KV_ADMIN_BIND_PORT=%d", ports["admin"]),
		"MERKLE_KV_BROKER_ENABLED=true",
		fmt.Sprintf("MERKLE_KV_BROKER_BIND_PORT=%d", ports["broker"]),
		"MERKLE_KV_STORAGE_PERSISTENCE_ENABLED=true",
		"MERKLE_KV_STORAGE_DATA_DIR=" + s.data(),
		"MERKLE_KV_STORAGE_FSYNC=" + s.fsync,
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}
	go func() {
		_ = c.cmd.Wait() // how it ended is in ProcessState
		close(c.done)
	}()
	return c, nil
}

// start launches the node and returns when it serves.
func (s *site) start(ctx context.Context) (*child, error) {
	for {
		c, err := s.launch()
		if err != nil {
			return nil, err
		}
		err = c.serves(ctx)
		if errors.Is(err, errPortTaken) {
			continue
		}
		if err != nil {
			c.kill()
			return nil, err
		}
		return c, nil
	}
}

// serves waits until the node answers reads.
func (c *child) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		reply, err := c.Do("DBSIZE")
		if err == nil && !strings.HasPrefix(reply, "ERROR") {
			return nil
		}
		select {
		case <-c.done:
			said := c.tail()
			if strings.Contains(said, "address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("the node ended at its start, %v:\n%s", c.cmd.ProcessState, said)
		case <-ctx.Done():
			return fmt.Errorf("the node does not serve %v after its start: %q, %w:\n%s", startWithin, reply, errors.Join(err, ctx.Err()), c.tail())
		case <-tick.C:
		}
	}
}

// kill ends the process as a crash does and returns when it is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // fails only when it is gone
	<-c.done
}

// stop asks the process to end and returns its exit code.
func (c *child) stop() int {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(startWithin)
	defer limit.Stop()
	select {
	case <-c.done:
	case <-limit.C:
		c.kill()
	}
	return c.cmd.ProcessState.ExitCode()
}

// tail is the end of what the node has logged.
func (c *child) tail() string {
	said, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(said[max(0, len(said)-3000):])
}
