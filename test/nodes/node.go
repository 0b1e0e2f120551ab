// Package nodes talks to the nodes of a running cluster as their clients do: in the text protocol of
// the client port, and over the admin HTTP. The tests on the real cluster and the demo use it.
package nodes

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// replyTimeout bounds one conversation with a node, which never waits for another machine.
const replyTimeout = 10 * time.Second

// maxBody bounds what is read of an answer of the admin HTTP, in bytes.
const maxBody = 1 << 20

// Node is a node as a client sees it.
type Node struct {
	Name      string
	Address   string // of the client port, host:port
	AdminBase string // of the admin HTTP, without a trailing slash
}

// Conn is a connection to the client port of a node. It is for one goroutine.
type Conn struct {
	node string
	conn net.Conn
	in   *bufio.Reader
}

// Dial opens a connection.
func (n Node) Dial() (*Conn, error) {
	conn, err := net.DialTimeout("tcp", n.Address, replyTimeout)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return &Conn{node: n.Name, conn: conn, in: bufio.NewReader(conn)}, nil
}

// Close ends the connection.
func (c *Conn) Close() { _ = c.conn.Close() }

// DoAll sends the requests in one go, as a pipeline, and returns one reply line for each, without
// the line ends. Only for requests whose reply is one line. After an error the connection is of no
// more use.
func (c *Conn) DoAll(requests ...string) ([]string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return nil, fmt.Errorf("%s: %w", c.node, err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.conn, strings.Join(requests, "\r\n")+"\r\n")
		sent <- err
	}()
	replies, err := c.lines(len(requests))
	if err != nil {
		c.Close() // ends a send that is still under way
		<-sent
		return nil, fmt.Errorf("%s: reply %d of %d: %w", c.node, len(replies)+1, len(requests), err)
	}
	if err := <-sent; err != nil {
		return nil, fmt.Errorf("%s: %w", c.node, err)
	}
	return replies, nil
}

func (c *Conn) lines(count int) ([]string, error) {
	lines := make([]string, 0, count)
	for range count {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return lines, err
		}
		lines = append(lines, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	return lines, nil
}

// Do sends one request over a connection of its own and returns its first reply line.
func (n Node) Do(request string) (string, error) {
	replies, err := n.DoAll(request)
	if err != nil {
		return "", err
	}
	return replies[0], nil
}

// DoAll is Conn.DoAll over a connection of its own.
func (n Node) DoAll(requests ...string) ([]string, error) {
	c, err := n.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.DoAll(requests...)
}

// Report sends a request whose reply is lines up to END, and returns those before it.
func (n Node) Report(request string) ([]string, error) {
	c, err := n.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	replies, err := c.DoAll(request)
	if err != nil {
		return nil, err
	}
	var lines []string
	for replies[0] != "END" {
		if strings.HasPrefix(replies[0], "ERROR: ") {
			return nil, fmt.Errorf("%s: %s: %s", n.Name, request, replies[0])
		}
		lines = append(lines, replies[0])
		if replies, err = c.lines(1); err != nil {
			return nil, fmt.Errorf("%s: %s: line %d: %w", n.Name, request, len(lines)+1, err)
		}
	}
	return lines, nil
}

// Get returns the body of a page of the admin HTTP; the path begins with a slash. The status does
// not matter.
func (n Node) Get(path string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: it is on this machine
	response, err := (&http.Client{Transport: transport, Timeout: replyTimeout}).Get(n.AdminBase + path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", n.Name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return "", fmt.Errorf("%s: %w", n.Name, err)
	}
	return string(body), nil
}

// Reasons returns the lines of /readyz?verbose: what the node says of itself and of its peers.
func (n Node) Reasons() ([]string, error) {
	body, err := n.Get("/readyz?verbose")
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(body), "\n"), nil
}
