package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// poller is an epoll set, by number of connection.
type poller struct {
	fd     int
	events []unix.EpollEvent
}

// newPoller returns a poller for n connections.
func newPoller(n int) (poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return poller{fd: -1}, fmt.Errorf("epoll: %w", err)
	}
	return poller{fd: fd, events: make([]unix.EpollEvent, n)}, nil
}

// add waits for input of connection id, which is what an event's Fd will hold.
func (p *poller) add(fd, id int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// wait returns the connections that have input, none after the timeout. The
// slice is valid until the next call.
func (p *poller) wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	for {
		n, err := unix.EpollWait(p.fd, p.events, int(timeout.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
		return p.events[:n], nil
	}
}

func (p *poller) close() {
	if p.fd > 0 {
		_ = unix.Close(p.fd)
	}
}

// loadConn is one connection of a closed loop, with buffers that it keeps.
type loadConn struct {
	fd       int
	out      []byte // requests to be written
	in       []byte // replies: in[:have] is there
	have     int
	key      []byte
	asked    []int // the keys in flight, in order
	answered int   // how many of them are answered
}

// readSize is what one read may return.
const readSize = 16 << 10

// dialLoad connects to an IPv4 address and port.
func dialLoad(addr string) (*loadConn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if !to.Addr().Is4() || !to.Addr().IsLoopback() {
		return nil, fmt.Errorf("dial %s: only IPv4 loopback addresses are measured", addr)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := &loadConn{fd: fd, in: make([]byte, readSize)}
	if err := c.connect(to); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return c, nil
}

func (c *loadConn) connect(to netip.AddrPort) error {
	err := unix.Connect(c.fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return unix.SetNonblock(c.fd, true)
}

// fill reads what is there. The buffer grows only when a reply fills it whole.
func (c *loadConn) fill() error {
	if c.have == len(c.in) {
		if c.have > 2*maxBulk {
			return fmt.Errorf("%w: it has no end", errProtocol)
		}
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := unix.Read(c.fd, c.in[c.have:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errServerClosed
	}
	c.have += n
	return nil
}

// consume forgets the first n bytes of the input.
func (c *loadConn) consume(n int) {
	if n > 0 {
		c.have = copy(c.in, c.in[n:c.have])
	}
}

// flush writes out whole. A pipeline is far smaller than a socket's buffers, so
// waiting for room is the exception.
func (c *loadConn) flush() error {
	for rest := c.out; len(rest) > 0; {
		n, err := unix.Write(c.fd, rest)
		switch {
		case errors.Is(err, unix.EAGAIN):
			set := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(set, int(silence.Milliseconds())); err == nil && n == 0 {
				return errSilent
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("write: %w", err)
		default:
			rest = rest[n:]
		}
	}
	return nil
}
