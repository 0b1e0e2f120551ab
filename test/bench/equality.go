package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
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
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return e, fmt.Errorf("watch equality: %w", err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	for rest(ctx, equalityEvery) == nil {
		version, err := markedVersion(conn, lines)
		if err != nil {
			return e, err
		}
		if err := e.until(ctx, conn, lines, version); err != nil {
			return e, err
		}
	}
	return e, nil
}

// markedVersion writes a key and returns the version that it got.
func markedVersion(conn net.Conn, lines *bufio.Reader) (string, error) {
	if _, err := ask(conn, lines, "SET bench:equality now"); err != nil {
		return "", err
	}
	line, err := ask(conn, lines, "DEBUG KEY bench:equality")
	if err != nil {
		return "", err
	}
	version := ""
	for ; line != "END"; line, err = next(lines) {
		if err != nil {
			return "", err
		}
		if v, found := strings.CutPrefix(line, "version:"); found {
			version = v
		}
	}
	if version == "" {
		return "", errors.New("DEBUG KEY tells no version")
	}
	return version, nil
}

// until asks until the answer is EQUAL, or ctx ends.
func (e *equality) until(ctx context.Context, conn net.Conn, lines *bufio.Reader, version string) error {
	start := time.Now()
	for ctx.Err() == nil {
		verdict, err := ask(conn, lines, "CONVERGED "+version)
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

func ask(conn net.Conn, lines *bufio.Reader, request string) (string, error) {
	if _, err := fmt.Fprintf(conn, "%s\r\n", request); err != nil {
		return "", err
	}
	return next(lines)
}

func next(lines *bufio.Reader) (string, error) {
	line, err := lines.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}
