package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"merklekv/pkg/config"
)

const (
	nodeDialTimeout = 3 * time.Second
	// nodeAnswerTimeout is for requests that do not wait for other nodes.
	nodeAnswerTimeout = 5 * time.Second
	// maxAnswerLine is the longest line that a node is believed to answer, in bytes.
	maxAnswerLine = 64 << 10
)

// answerError is an error that a node answered.
type answerError struct{ addr, message string }

func (e *answerError) Error() string { return e.addr + " answers: " + e.message }

// nodeClient speaks the text protocol with one node. It is for one goroutine.
type nodeClient struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
	ctx  context.Context
	stop func() bool
}

// dialNode connects to a node's client port. What the client does ends when ctx
// does.
func dialNode(ctx context.Context, addr string) (*nodeClient, error) {
	d := net.Dialer{Timeout: nodeDialTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s; is it running, and is this its client port? %w", addr, err)
	}
	c := &nodeClient{addr: addr, conn: conn, in: bufio.NewReaderSize(conn, maxAnswerLine), ctx: ctx}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return c, nil
}

func (c *nodeClient) close() {
	c.stop()
	_ = c.conn.Close() // nothing is owed
}

// ask sends a request and returns the first line of the answer.
func (c *nodeClient) ask(words ...string) (string, error) {
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", strings.Join(words, " ")); err != nil {
		return "", c.failed(words[0], err)
	}
	line, err := c.line()
	if err != nil {
		return "", c.failed(words[0], err)
	}
	if message, isError := strings.CutPrefix(line, "ERROR: "); isError {
		return "", &answerError{c.addr, message}
	}
	return line, nil
}

// line returns the next line of an answer.
func (c *nodeClient) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("a line of more than %d bytes", maxAnswerLine)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func (c *nodeClient) failed(command string, err error) error {
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	return fmt.Errorf("%s at %s: half an answer, or none: %w", command, c.addr, err)
}

// nodeAddress reads host:port, or a host, as --node and --with have it.
func nodeAddress(flag, given string) (string, error) {
	addr, err := config.PeerAddress(given)
	if err != nil {
		return "", &usageError{fmt.Errorf("--%s: %w", flag, err)}
	}
	return addr, nil
}

// fields reads the name=value words of a report.
func fields(line string) map[string]string {
	values := make(map[string]string)
	for word := range strings.FieldsSeq(line) {
		if name, value, found := strings.Cut(word, "="); found {
			values[name] = value
		}
	}
	return values
}
