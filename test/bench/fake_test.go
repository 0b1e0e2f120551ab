package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeServer is a key-value server of the simplest kind, in either protocol.
type fakeServer struct {
	resp   bool
	mangle func(command, key, value string) string // changes what GET finds

	mu   sync.Mutex
	data map[string]string
	sets int
}

// start serves until the test ends and returns the address.
func (f *fakeServer) start(t *testing.T) string {
	t.Helper()
	f.data = make(map[string]string)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Wait() // each ends when its client has gone
	})
	return ln.Addr().String()
}

// counts returns how many writes came and how many keys there are.
func (f *fakeServer) counts() (sets, keys int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sets, len(f.data)
}

// snapshot returns a copy of the data.
func (f *fakeServer) snapshot() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.data)
}

// become replaces the data.
func (f *fakeServer) become(data map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = data
}

func (f *fakeServer) serve(conn net.Conn) {
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	for {
		args, err := f.request(in)
		if err != nil {
			return
		}
		f.answer(out, args)
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

func (f *fakeServer) request(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if !f.resp {
		if name, rest, _ := strings.Cut(line, " "); name == "MGET" {
			return append([]string{name}, strings.Fields(rest)...), nil
		}
		return strings.SplitN(line, " ", 3), nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(line, "*"))
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		length, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimSpace(length[1:]))
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func (f *fakeServer) answer(out *bufio.Writer, args []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch args[0] {
	case "SET":
		f.data[args[1]] = args[2]
		f.sets++
		f.status(out, "OK")
	case "GET", "MGET":
		for _, key := range args[1:] {
			f.value(out, args[0], key)
		}
	case "DBSIZE":
		if f.resp {
			fmt.Fprintf(out, ":%d\r\n", len(f.data))
			return
		}
		fmt.Fprintf(out, "%d\r\n", len(f.data))
	case "SCAN":
		keys := make([]string, 0, len(f.data))
		for k := range f.data {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		fmt.Fprintf(out, "KEYS %d\r\n", len(keys))
		for _, k := range keys {
			fmt.Fprintf(out, "%s\r\n", k)
		}
	}
}

func (f *fakeServer) status(out *bufio.Writer, s string) {
	if f.resp {
		s = "+" + s
	}
	fmt.Fprintf(out, "%s\r\n", s)
}

func (f *fakeServer) value(out *bufio.Writer, command, key string) {
	v, ok := f.data[key]
	if f.mangle != nil {
		v = f.mangle(command, key, v)
	}
	switch {
	case f.resp && ok:
		fmt.Fprintf(out, "$%d\r\n%s\r\n", len(v), v)
	case f.resp:
		fmt.Fprint(out, "$-1\r\n")
	case ok:
		fmt.Fprintf(out, "%s\r\n", v)
	default:
		fmt.Fprint(out, "(null)\r\n")
	}
}
