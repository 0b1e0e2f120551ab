package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"merklekv/test/nodes"
)

// project is the name under which Compose runs the demo. It is always the same, so that what a run
// left behind that was killed is found by the next one.
const project = "merklekv-demo"

// stage is the cluster of the demo and the programs that act on it: Compose of either version, and
// docker.
type stage struct {
	root  string // of the repository
	env   []string
	ports map[string]int
}

func newStage() (*stage, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	ports, err := nodes.FreePorts(nodes.PortVariables())
	if err != nil {
		return nil, err
	}
	// Settings of the shell are for another cluster; of two variables with one name the later counts.
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "MERKLE_KV_") })
	env = append(env, "COMPOSE_PROJECT_NAME="+project, "COMPOSE_FILE=docker-compose.yml", "MKV_BIND=127.0.0.1")
	for name, port := range ports {
		env = append(env, fmt.Sprintf("%s=%d", name, port))
	}
	return &stage{root: root, env: env, ports: ports}, nil
}

// findRoot looks for the compose file here and in the folders above.
func findRoot() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "docker-compose.yml")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no docker-compose.yml in %s or above it: run this in the repository", here)
		}
	}
}

func (s *stage) node(i int) nodes.Node { return nodes.Of(s.ports, i) }

func (s *stage) up(ctx context.Context) error {
	if _, err := s.run(ctx, "deploy/compose.sh", "up", "-d", "--no-build"); err != nil {
		return err
	}
	return s.waitHealthy(ctx)
}

func (s *stage) waitHealthy(ctx context.Context) error {
	_, err := s.run(ctx, "deploy/wait-healthy.sh", "60")
	return err
}

// down removes the containers, the networks and the volumes. There is nothing in them to be stopped
// with care.
func (s *stage) down(ctx context.Context) error {
	_, err := s.run(ctx, "deploy/compose.sh", "down", "--volumes", "--remove-orphans", "--timeout", "1")
	return err
}

// clear removes what an earlier run left, if it did.
func (s *stage) clear(ctx context.Context) error {
	label := "label=com.docker.compose.project=" + project
	for _, list := range [][]string{{"ps", "-aq", "--filter", label}, {"volume", "ls", "-q", "--filter", label}} {
		left, err := s.run(ctx, "docker", list...)
		if err != nil {
			return err
		}
		if left != "" {
			return s.down(ctx)
		}
	}
	return nil
}

// container returns the name of a service's container; versions of Compose differ in how they make it.
func (s *stage) container(ctx context.Context, service string) (string, error) {
	name, err := s.run(ctx, "docker", "ps", "-a", "--format", "{{.Names}}",
		"--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service="+service)
	if err == nil && (name == "" || strings.ContainsAny(name, "\n,")) {
		err = fmt.Errorf("containers of %s: %q, want one", service, name)
	}
	return name, err
}

// run runs a program to its end and returns what it printed. A ^C at the terminal goes to this
// process alone, which then ends the program through ctx: half a `compose up` cannot be cleared away
// while it runs.
func (s *stage) run(ctx context.Context, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = s.root, s.env
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }
	command.WaitDelay = 20 * time.Second
	var output, complaint bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaint
	if err := command.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(output.String()), nil
}
