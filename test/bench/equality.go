package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"merklekv/test/nodes"
)

// equality asks a node under load, again and again, whether all replicas hold a
// write that it has just made.
type equality struct {
	asked, different int
	slowest          time.Duration // until EQUAL
}

const (
	equalityEvery    = 500 * time.Millisecond
	equalityPatience = 20 * time.Second
)

// watchEquality asks until ctx ends.
func watchEquality(ctx context.Context, addr string) (e equality, err error) {
	n := nodes.Node{Name: addr, Address: addr}
	for rest(ctx, equalityEvery) == nil {
		version, err := markedVersion(n)
		if err != nil {
			return e, err
		}
		if err := e.until(ctx, n, version); err != nil {
			return e, err
		}
	}
	return e, nil
}

// markedVersion writes a key and returns the version that it got.
func markedVersion(n nodes.Node) (string, error) {
	if _, err := n.Do("SET bench:equality now"); err != nil {
		return "", err
	}
	lines, err := n.Report("DEBUG KEY bench:equality")
	if err != nil {
		return "", err
	}
	for _, line := range lines {
		if version, found := strings.CutPrefix(line, "version:"); found {
			return version, nil
		}
	}
	return "", errors.New("DEBUG KEY tells no version")
}

// until asks until the answer is EQUAL, or ctx ends.
func (e *equality) until(ctx context.Context, n nodes.Node, version string) error {
	start := time.Now()
	for ctx.Err() == nil {
		verdict, err := n.Do("CONVERGED " + version)
		if err != nil {
			return err
		}
		switch word, _, _ := strings.Cut(verdict, " "); {
		case word == "EQUAL":
			e.asked++
			e.slowest = max(e.slowest, time.Since(start))
			return nil
		case word == "DIFFERENT":
			e.different++
		case word != "UNKNOWN":
			return fmt.Errorf("CONVERGED answers %q", verdict)
		}
		if time.Since(start) > equalityPatience {
			return fmt.Errorf("not EQUAL within %v: %s", equalityPatience, verdict)
		}
		if rest(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	return nil
}
