package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// upBound is how long the cluster may take from nothing to healthy, with the
// images built.
const upBound = 10 * time.Second

// downGrace is how long removing the containers may take.
const downGrace = time.Minute

// upPorts are the compose file's variables for ports of this machine.
var upPorts = []string{
	"MKV_NODE1_PORT", "MKV_NODE1_ADMIN_PORT", "MKV_NODE2_PORT", "MKV_NODE2_ADMIN_PORT",
	"MKV_NODE3_PORT", "MKV_NODE3_ADMIN_PORT", "MKV_BROKER_PORT",
}

// runUp starts the cluster of the compose file beside whatever else runs, as
// `make up` does once the images are built, and removes it again.
func runUp(ctx context.Context, b *bench) (err error) {
	env, err := upEnviron()
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downGrace)
		defer cancel()
		err = errors.Join(err, script(ctx, env, "deploy/compose.sh", "down", "--volumes"))
	}()
	began := time.Now()
	if err := script(ctx, env, "deploy/compose.sh", "up", "-d", "--no-build"); err != nil {
		return fmt.Errorf("%w\nare the images built? make image", err)
	}
	created := time.Since(began)
	if err := script(ctx, env, "deploy/wait-healthy.sh", "60"); err != nil {
		return err
	}
	healthy := time.Since(began)
	b.printf("three nodes and a broker in containers: started after %v, healthy after %v\n", round(created), round(healthy))
	return b.verdict(healthy <= upBound, "healthy after %v, at most %v", round(healthy), upBound)
}

// upEnviron is an environment in which the compose file describes a project of
// its own, on free ports.
func upEnviron() ([]string, error) {
	addrs, err := freeAddrs(len(upPorts))
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), "MKV_BIND=127.0.0.1", "COMPOSE_PROJECT_NAME=merklekv-bench-"+strconv.Itoa(os.Getpid()))
	for i, variable := range upPorts {
		env = append(env, variable+"="+portOf(addrs[i]))
	}
	return env, nil
}

// script runs a script of the repository, which is the working directory. What
// it printed is part of the error.
func script(ctx context.Context, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	if printed, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, printed)
	}
	return nil
}
