package cluster

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

// Node is a node as a client sees it.
type Node struct {
	Name      string
	Address   string // of the client port, host:port
	AdminBase string // of the admin HTTP, without a trailing slash
}

// Do sends one request of the text protocol and returns its first reply line, without the line end.
func (n Node) Do(request string) (string, error) {
	replies, err := n.DoAll(request)
	if err != nil {
		return "", err
	}
	return replies[0], nil
}

// DoAll sends the requests in one go, as a pipeline, and returns one reply line for each. Only for
// requests whose reply is one line.
func (n Node) DoAll(requests ...string) ([]string, error) {
	conn, err := net.DialTimeout("tcp", n.Address, replyTimeout)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, strings.Join(requests, "\r\n")+"\r\n")
		sent <- err
	}()
	replies, err := readLines(bufio.NewReader(conn), len(requests))
	if err != nil {
		conn.Close() // ends a send that is still under way
		<-sent
		return nil, fmt.Errorf("%s: reply %d of %d: %w", n.Name, len(replies)+1, len(requests), err)
	}
	if err := <-sent; err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return replies, nil
}

func readLines(r *bufio.Reader, count int) ([]string, error) {
	lines := make([]string, 0, count)
	for range count {
		line, err := r.ReadString('\n')
		if err != nil {
			return lines, err
		}
		lines = append(lines, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	return lines, nil
}

// maxReasons bounds what is read of an answer of the admin HTTP, in bytes.
const maxReasons = 1 << 20

// Reasons returns the lines of /readyz?verbose: what the node says of itself and of its peers.
func (n Node) Reasons() ([]string, error) {
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: it is on this machine
	response, err := (&http.Client{Transport: transport, Timeout: replyTimeout}).Get(n.AdminBase + "/readyz?verbose")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReasons))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return strings.Split(strings.TrimSpace(string(body)), "\n"), nil
}
