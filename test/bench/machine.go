package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machine describes what the figures were measured on.
func machine(ctx context.Context) string {
	info, _ := os.ReadFile("/proc/cpuinfo") // "unknown" says that it is not there
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg") // figures taken beside other work are worth little
	return fmt.Sprintf("machine  %s, %d cores, Linux %s, load average %.4s\nversions %s, %s, %s",
		cpuModel(info), runtime.NumCPU(), bytes.TrimSpace(release), load,
		runtime.Version(), redisVersion(ctx), revision(ctx))
}

// cpuModel finds the first processor's name in /proc/cpuinfo.
func cpuModel(info []byte) string {
	for line := range strings.Lines(string(info)) {
		name, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func redisVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "no Redis"
	}
	for _, field := range strings.Fields(string(out)) {
		if v, found := strings.CutPrefix(field, "v="); found {
			return "Redis " + v
		}
	}
	return "Redis of unknown version"
}

// revision names the commit of the working tree, "+" when it has changes.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+").Output()
	if err != nil {
		return "MerkleKV of unknown revision"
	}
	return "MerkleKV " + strings.TrimSpace(string(out))
}
