package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a server may take to end after SIGTERM; one with data on
// disk writes what is left of them.
const stopGrace = 20 * time.Second

// process is a server that this program started and will end.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // path of what it printed
	done chan struct{} // closed when it has ended
	err  error         // how, readable once done is closed
}

// startProcess starts a program with exactly env, in dir, its output in dir too.
func startProcess(dir, name string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, out, out
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process by its id and waits until it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it is gone
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the process without a warning and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it is gone
	<-p.done
}

// failure is err with the last lines that the process printed.
func (p *process) failure(err error) error {
	printed, _ := os.ReadFile(p.log) // what can be had
	tail := printed[max(0, len(printed)-1000):]
	return fmt.Errorf("%s: %w\n%s", p.name, err, strings.TrimSpace(string(tail)))
}

// await repeats try until it succeeds, the process ends, or the time is over.
func (p *process) await(ctx context.Context, timeout time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.failure(fmt.Errorf("ended while it was awaited: %v", p.err))
		case <-ctx.Done():
			return p.failure(fmt.Errorf("not ready: %w", err))
		case <-tick.C:
		}
	}
}

// freeAddrs returns n loopback addresses with ports that nobody listens on now.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, 0, n)
	for range n {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		defer ln.Close() // only now, so that no port comes twice
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}

// portOf returns the port of host:port.
func portOf(addr string) string {
	return addr[strings.LastIndexByte(addr, ':')+1:]
}
