package replication

import (
	"net"
	"sync"
	"time"
)

// seats are the places of the pulls that are served at once. A node takes one at
// most, and one address leaves one to the others.
type seats struct {
	max int

	mu    sync.Mutex
	nodes map[string]bool // by node_id
	hosts map[string]int  // by address, without the port
}

func newSeats(n int) *seats {
	return &seats{max: n, nodes: make(map[string]bool), hosts: make(map[string]int)}
}

// take takes a seat for a node at an address. Where it cannot, it says why.
func (s *seats) take(node, host string) (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.nodes[node]:
		return "a pull of this node is being served"
	case len(s.nodes) >= s.max:
		return "as many pulls as can be are being served"
	case s.hosts[host] >= max(1, s.max-1):
		return "as many pulls as can be are being served to this address"
	}
	s.nodes[node] = true
	s.hosts[host]++
	return ""
}

// leave gives back what take took.
func (s *seats) leave(node, host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, node)
	if s.hosts[host]--; s.hosts[host] == 0 {
		delete(s.hosts, host)
	}
}

// hostOf returns an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

const (
	pullGrace   = 30 * time.Second // that a puller may fall behind
	pullMinRate = 256 << 10        // bytes a second that a puller has to take
)

// pullPace ends the pull of a node that takes what it asked for too slowly: each
// frame in time, and all of it at the least rate, or it would keep its seat for
// as long as it likes.
type pullPace struct {
	sent    int           // bytes
	blocked time.Duration // in sending them
}

// timeout returns how long a frame of n bytes may take; not above 0 if it may
// not be sent any more.
func (p *pullPace) timeout(n int) time.Duration {
	due := pullGrace + time.Duration(float64(p.sent+n)/pullMinRate*float64(time.Second))
	return min(frameTimeout, due-p.blocked)
}

// note takes in that a frame of n bytes was sent.
func (p *pullPace) note(n int, took time.Duration) {
	p.sent += n
	p.blocked += took
}
