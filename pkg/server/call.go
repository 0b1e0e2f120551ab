package server

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"merklekv/pkg/protocol"
)

// Some requests block: they ask other nodes, or wait for an index. Their handlers
// check the arguments, copy what they keep of them and leave the rest to the
// driver:
//
//	session (handler) --needCall--> conn: flush, run the call --called--> session
//
// So answers keep the order of their requests, and a session stays without a
// clock, a socket or a goroutine.

// later leaves the blocking part of the present request to the driver. call runs
// while the session rests and must not touch it, nor the request's arguments.
func (s *session) later(call func(context.Context) (protocol.Reply, error)) protocol.Reply {
	env, command := s.env, s.command
	s.held = needCall
	s.call = func(ctx context.Context) protocol.Reply {
		r, err := call(ctx)
		switch {
		case err == nil:
			return r
		case ctx.Err() != nil:
			return protocol.ErrorReply(protocol.ErrInterrupted)
		}
		return env.refuse(command, err)
	}
	return protocol.Reply{}
}

// called answers the request that the call was for.
func (s *session) called(r protocol.Reply) {
	s.held, s.call = needInput, nil
	s.reply = r
	if r.Kind == protocol.Failure && r.Text == protocol.ErrInterrupted.Message {
		s.end = closeConn
	}
	s.tally.count(s.command.ID, r.Kind == protocol.Failure)
	s.write()
}

// refuse answers an error with the protocol's message that it wraps, or else as
// an internal one, which the log explains.
func (e *environment) refuse(c *protocol.Command, err error) protocol.Reply {
	var told *protocol.Error
	if errors.As(err, &told) {
		return protocol.ErrorReply(told)
	}
	e.failed(c.Name, err)
	return protocol.ErrorReply(protocol.ErrInternal)
}

// call runs the blocking part of a request. It ends when the server closes or the
// connection breaks. A client that only closes its sending side still gets the
// answer.
func (c *conn) call() {
	start := c.server.now()
	c.mark(phaseCalling, start)
	ctx, cancel := context.WithCancel(c.server.peerCtx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c.readAhead() {
			cancel()
		}
	}()
	reply := c.session.call(ctx)
	c.net.SetReadDeadline(time.Unix(1, 0)) // ends readAhead
	<-ended
	c.net.SetReadDeadline(time.Time{})
	if c.server.peerCtx.Err() != nil {
		c.interrupt() // the deadline that Close has set may be the one just lifted
	}
	cancel()
	now := c.server.now()
	c.away += now - start
	c.mark(phaseExecuting, now)
	c.session.called(reply)
}

// readAhead reads what the client sends while a call runs, as far as there is
// room, and reports whether the connection broke.
func (c *conn) readAhead() (broken bool) {
	for {
		buf := c.session.free()
		if len(buf) == 0 {
			return false
		}
		n, err := c.net.Read(buf)
		c.received(n)
		if err != nil {
			return !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}
