package server

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener for connections in memory, so that a test's clock is not
// the wall's.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.accept:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns the client's end of a new connection.
func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.accept <- far
	return near
}

// withPipes runs a test in a bubble of time with a server of the limits.
func withPipes(t *testing.T, limits Limits, test func(t *testing.T, s *Server, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		store.values["big"] = []byte(strings.Repeat("v", 200_000))
		opts, err := Options{
			Store:  store,
			Limits: limits,
			Peer:   func(ctx context.Context, nc net.Conn, rest []byte) { io.Copy(io.Discard, nc) },
		}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		p := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		s, err := newServer(opts, p)
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve(context.Background())
		test(t, s, p)
		s.Close()
	})
}

// say sends text on a connection without buffers and waits until the server has
// done with it what it can.
func say(t *testing.T, nc net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(nc, text); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// ended returns how long after now the server ends the connection, whatever it
// sends before.
func ended(nc net.Conn) time.Duration {
	start := time.Now()
	io.Copy(io.Discard, nc)
	return time.Since(start)
}

// within fails the test unless the server ended a connection after the timeout,
// and before the second next look at it.
func within(t *testing.T, got, timeout time.Duration) {
	t.Helper()
	if got < timeout || got > timeout+2*sweepInterval {
		t.Errorf("ended after %v, the limit is %v", got, timeout)
	}
}

func TestHalfARequestForEver(t *testing.T) {
	withPipes(t, Limits{ConnectionTimeout: 10 * time.Second}, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		say(t, nc, "SET k ")
		start := time.Now()
		got, err := io.ReadAll(nc)
		if string(got) != "ERROR: Incomplete request\r\n" || err != nil {
			t.Errorf("told %q, %v", got, err)
		}
		within(t, time.Since(start), 10*time.Second)
		if n := s.Stats().TimedOut; n != 1 {
			t.Errorf("%d timeouts", n)
		}
	})
}

// One byte now and then does not make a request younger.
func TestDrippingRequest(t *testing.T) {
	withPipes(t, Limits{ConnectionTimeout: 10 * time.Second}, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		start := time.Now()
		for {
			if _, err := io.WriteString(nc, "x"); err != nil {
				break
			}
			time.Sleep(3 * time.Second) // of the bubble's time
		}
		if spent := time.Since(start); spent < 10*time.Second || spent > 18*time.Second {
			t.Errorf("ended after %v", spent)
		}
	})
}

// Requests that are finished in time may go on for ever, also when each read
// ends in the middle of one.
func TestSteadyRequestsDoNotTimeOut(t *testing.T) {
	limits := Limits{ConnectionTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second}
	withPipes(t, limits, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		say(t, nc, "PI")
		reply := make([]byte, len("PONG\r\n"))
		for range 20 {
			time.Sleep(6 * time.Second)
			say(t, nc, "NG\nPI")
			if _, err := io.ReadFull(nc, reply); err != nil {
				t.Fatal(err)
			}
		}
		nc.Close()
	})
}

func TestIdleTimeout(t *testing.T) {
	withPipes(t, Limits{IdleTimeout: 20 * time.Second}, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		time.Sleep(15 * time.Second)
		say(t, nc, "SET k v\n")
		if _, err := io.ReadFull(nc, make([]byte, len("OK\r\n"))); err != nil {
			t.Fatal(err)
		}
		within(t, ended(nc), 20*time.Second)
	})
}

func TestIdleConnectionsLiveByDefault(t *testing.T) {
	withPipes(t, Limits{ConnectionTimeout: time.Second}, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		time.Sleep(24 * time.Hour)
		say(t, nc, "PING\n")
		if _, err := io.ReadFull(nc, make([]byte, len("PONG\r\n"))); err != nil {
			t.Fatal(err)
		}
		nc.Close()
	})
}

func TestClientThatNeverReads(t *testing.T) {
	withPipes(t, Limits{ConnectionTimeout: 10 * time.Second}, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		say(t, nc, "GET big\n")
		time.Sleep(9 * time.Second)
		if s.Stats().Clients != 1 {
			t.Error("ended too early")
		}
		time.Sleep(3 * time.Second)
		if st := s.Stats(); st.Clients != 0 || st.TimedOut != 1 {
			t.Errorf("%+v", st)
		}
		nc.Close()
	})
}

func TestSilentConnectionInTheReserve(t *testing.T) {
	withPipes(t, Limits{MaxConnections: 1}, func(t *testing.T, s *Server, p *pipes) {
		client := p.dial()
		say(t, client, "")
		silent, dripping := p.dial(), p.dial()
		say(t, dripping, "PEE")
		within(t, ended(silent), reserveTime)
		within(t, ended(dripping), 0)
		synctest.Wait()
		if st := s.Stats(); st.Clients != 1 || st.TimedOut != 2 {
			t.Errorf("%+v", st)
		}
		client.Close()
	})
}

func TestPeersHaveTheirOwnTimeouts(t *testing.T) {
	limits := Limits{ConnectionTimeout: time.Second, IdleTimeout: time.Second}
	withPipes(t, limits, func(t *testing.T, s *Server, p *pipes) {
		nc := p.dial()
		say(t, nc, "PEER\n")
		if _, err := io.ReadFull(nc, make([]byte, len("OK\r\n"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if s.Stats().Peers != 1 {
			t.Error("a quiet peer was disconnected")
		}
		nc.Close()
	})
}

// Connections that say PEER and nothing more do not keep the peers' places.
func TestSilentPeersGiveWay(t *testing.T) {
	withPipes(t, Limits{MaxConnections: 1}, func(t *testing.T, s *Server, p *pipes) {
		client := p.dial()
		say(t, client, "")
		for range peerSlots {
			nc := p.dial()
			say(t, nc, "PEER\n")
			io.ReadFull(nc, make([]byte, len("OK\r\n")))
		}
		if st := s.Stats(); st.Peers != peerSlots {
			t.Fatalf("%+v", st)
		}
		time.Sleep(2 * sweepInterval)
		synctest.Wait()
		if st := s.Stats(); st.Peers != 0 || st.Clients != 1 {
			t.Errorf("%+v", st)
		}
		client.Close()
	})
}

// A listener that fails for a while is asked again, later and later.
type failing struct {
	*pipes
	failures int
	asked    []time.Time
}

func (f *failing) Accept() (net.Conn, error) {
	f.asked = append(f.asked, time.Now())
	if len(f.asked) <= f.failures {
		return nil, &net.OpError{Op: "accept", Err: io.ErrNoProgress}
	}
	return f.pipes.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts, err := Options{Store: newMemory()}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		ln := &failing{pipes: &pipes{make(chan net.Conn), make(chan struct{})}, failures: 12}
		s, err := newServer(opts, ln)
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve(context.Background())
		nc := ln.dial()
		nc.Close()
		s.Close()
		for i := 2; i < ln.failures; i++ {
			before, pause := ln.asked[i-1].Sub(ln.asked[i-2]), ln.asked[i].Sub(ln.asked[i-1])
			if pause < before || pause > time.Second {
				t.Errorf("pause %d is %v after %v", i, pause, before)
			}
		}
	})
}
