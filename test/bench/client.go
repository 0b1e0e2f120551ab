package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// client is a simple connection for everything but load: one request, one
// reply.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	dialect dialect
}

// maxLine is the longest reply that a client takes.
const maxLine = 64 << 10

func newClient(conn net.Conn, d dialect) *client {
	return &client{conn: conn, in: bufio.NewReaderSize(conn, maxLine), dialect: d}
}

// dialClient connects to a server's client port.
func dialClient(addr string, d dialect) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, silence)
	if err != nil {
		return nil, err
	}
	return newClient(conn, d), nil
}

func (c *client) close() { _ = c.conn.Close() }

// do sends requests that end with the one whose reply is returned. The reply is
// valid until the next call.
func (c *client) do(request []byte) (reply, error) {
	if err := c.send(request); err != nil {
		return reply{}, err
	}
	return c.receive()
}

func (c *client) send(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	_, err := c.conn.Write(request)
	return err
}

// receive reads one reply: more input is asked for until it is complete.
func (c *client) receive() (reply, error) {
	for want := 1; ; {
		in, err := c.in.Peek(want)
		if err != nil && len(in) < want {
			return reply{}, fmt.Errorf("reply: %w", err)
		}
		in, _ = c.in.Peek(c.in.Buffered())
		r, n, err := c.dialect.Next(in)
		if err != nil {
			return reply{}, err
		}
		if n > 0 {
			_, err = c.in.Discard(n) // leaves the bytes where r points
			return r, err
		}
		want = len(in) + 1
	}
}

// size returns how many keys the server has.
func (c *client) size() (int, error) {
	request := "DBSIZE\r\n"
	if _, resp := c.dialect.(respDialect); resp {
		request = "*1\r\n$6\r\nDBSIZE\r\n"
	}
	r, err := c.do([]byte(request))
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(r.body))
	if err != nil {
		return 0, fmt.Errorf("%w to DBSIZE: %.100q", errUnexpectedReply, r.body)
	}
	return n, nil
}

// scan returns all keys that begin with the prefix, in order. Text only.
func (c *client) scan(prefix string) ([]string, error) {
	r, err := c.do([]byte(strings.TrimSpace("SCAN "+prefix) + "\r\n"))
	if err != nil {
		return nil, err
	}
	head := strings.Fields(string(r.body))
	if len(head) != 2 || head[0] != "KEYS" {
		return nil, fmt.Errorf("%w to SCAN: %.100q", errUnexpectedReply, r.body)
	}
	n, err := strconv.Atoi(head[1])
	if err != nil || n < 0 {
		return nil, fmt.Errorf("%w to SCAN: %.100q", errUnexpectedReply, r.body)
	}
	var keys []string
	for range n {
		if r, err = c.receive(); err != nil {
			return nil, err
		}
		keys = append(keys, string(r.body))
	}
	return keys, nil
}

// dump writes every key with its value, in order of keys, as one line each.
// Text only.
func (c *client) dump(w io.Writer, prefix string) (int, error) {
	const atOnce = 256
	keys, err := c.scan(prefix)
	if err != nil {
		return 0, err
	}
	for from := 0; from < len(keys); from += atOnce {
		some := keys[from:min(from+atOnce, len(keys))]
		if err := c.send([]byte("MGET " + strings.Join(some, " ") + "\r\n")); err != nil {
			return 0, err
		}
		for _, key := range some {
			r, err := c.receive()
			if err != nil {
				return 0, err
			}
			if r.kind == replyError {
				return 0, fmt.Errorf("%w to MGET: %.100q", errUnexpectedReply, r.body)
			}
			if _, err := fmt.Fprintf(w, "%s %s\n", key, r.body); err != nil {
				return 0, err
			}
		}
	}
	return len(keys), nil
}
