package server

import (
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"merklekv/pkg/journal"
	"merklekv/pkg/protocol"
)

const (
	// lingerTime and lingerBytes bound how long a connection that is refused
	// is read from, so that its client gets the reason instead of a reset.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 8 << 20
	// tellTime bounds the last message to a client that is given up.
	tellTime = 500 * time.Millisecond
	// writeStep is how much is written at a time, so that progress shows.
	writeStep = 256 << 10
	// reserveTime is how long a connection in the reserve may take to say PEER.
	reserveTime = time.Second
)

// phase is what a connection is doing.
type phase uint8

const (
	phaseIdle      phase = iota // between requests
	phaseReserved               // has yet to say PEER
	phaseReceiving              // in a request
	phaseQueued                 // for memory for a large request or answer
	phaseExecuting
	phaseWaiting // for a write to be durable
	phaseCalling // other nodes, or the index
	phaseWriting
	phasePeer
	phaseClosing

	phaseBits = 4
)

func (p phase) String() string {
	return [...]string{"idle", "reserved", "receiving", "queued", "executing", "waiting", "calling", "writing", "peer", "closing"}[p]
}

// moment is a phase and when it began, in one word: the server's time in
// nanoseconds (36 years of them), then the phase.
type moment uint64

func momentOf(p phase, since time.Duration) moment {
	return moment(since)<<phaseBits | moment(p)
}

func (m moment) phase() phase         { return phase(m & (1<<phaseBits - 1)) }
func (m moment) since() time.Duration { return time.Duration(m >> phaseBits) }

// conn drives one session with a goroutine of its own: read, advance, wait for
// the ticket, write.
type conn struct {
	server  *Server
	net     net.Conn
	id      uint64
	started time.Duration
	session *session
	heard   atomic.Bool // whether a peer has sent anything since PEER
	input   claim       // of the server's input budget
	pace    pace
	away    time.Duration // spent in calls since the last account

	// What others see of the connection; only its goroutine writes.
	moment   atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64

	killed   chan struct{} // closed by kill
	killOnce sync.Once
	late     chan struct{} // closed by expire
	lateOnce sync.Once
}

func newConn(s *Server, nc net.Conn, id uint64, reserved bool) *conn {
	c := &conn{
		server:  s,
		net:     nc,
		id:      id,
		started: s.now(),
		session: newSession(&s.env, s.opts.MaxRequestBytes),
		killed:  make(chan struct{}),
		late:    make(chan struct{}),
	}
	c.session.reserved = reserved
	c.mark(phaseIdle, c.started)
	if reserved {
		c.mark(phaseReserved, c.started)
	}
	return c
}

func (c *conn) mark(p phase, at time.Duration) { c.moment.Store(uint64(momentOf(p, at))) }

// overdue reports whether the connection has been in its phase for too long.
func (c *conn) overdue(now time.Duration, limits *Limits) bool {
	m := moment(c.moment.Load())
	spent := now - m.since()
	switch m.phase() {
	case phaseReceiving, phaseQueued, phaseWriting:
		return spent >= limits.ConnectionTimeout
	case phaseReserved:
		return spent >= reserveTime
	case phaseIdle:
		return limits.IdleTimeout > 0 && spent >= limits.IdleTimeout
	}
	return false
}

// interrupt makes the connection end when what it has read is answered; a
// peer's ends now.
func (c *conn) interrupt() {
	c.net.SetReadDeadline(time.Unix(1, 0))
	if moment(c.moment.Load()).phase() == phasePeer {
		c.kill()
	}
}

// expire ends the connection for being late, and reports whether it is news. One
// that is about to read, or waits for room to, is told so first.
func (c *conn) expire() (first bool) {
	c.lateOnce.Do(func() {
		first = true
		close(c.late)
	})
	switch moment(c.moment.Load()).phase() {
	case phaseReceiving, phaseQueued:
		c.net.SetReadDeadline(time.Unix(1, 0))
	default:
		c.kill()
	}
	return first
}

// kill ends the connection whatever it is doing.
func (c *conn) kill() {
	c.killOnce.Do(func() {
		close(c.killed)
		c.net.Close()
	})
}

// serve runs the connection until it ends.
func (c *conn) serve() {
	end := c.converse()
	if end == upgrade {
		c.becomePeer()
	}
	if end == closeConn && c.session.reserved {
		c.server.metrics.refused.Add(1)
	}
	if end == closeConn && c.session.lingers {
		c.mark(phaseClosing, c.server.now())
		c.net.SetReadDeadline(time.Now().Add(lingerTime))
		linger(c.net)
	}
	c.server.input.release(&c.input)
	c.server.replies.release(&c.session.claim)
	c.server.forget(c, end == upgrade)
	c.kill()
	if c.session.stops {
		c.server.opts.Shutdown()
	}
}

// converse serves requests until the connection ends, and returns why: the
// session's closeConn or upgrade, or needInput if the client or the network
// ended it.
func (c *conn) converse() status {
	for {
		buf := c.space()
		if buf == nil {
			return c.giveUp(protocol.ErrBusy)
		}
		n, err := c.net.Read(buf)
		if n > 0 {
			c.received(n)
			end, ok := c.answer()
			if !ok || end != needInput {
				return end
			}
		}
		if err != nil {
			return c.giveUp(protocol.ErrUnfinished) // all that came whole is answered
		}
	}
}

// received says that n bytes were read to the session's space.
func (c *conn) received(n int) {
	c.bytesIn.Store(c.bytesIn.Load() + uint64(n))
	c.server.metrics.bytesIn.Add(uint64(n))
	c.session.fill(n)
}

// space returns where to read to, nil if the connection must end. A request that
// outgrows the usual buffer claims its buffer from the server's input budget, so
// that many long requests at once take bounded memory; while it waits for that,
// its time to arrive stands still.
func (c *conn) space() []byte {
	buf := c.session.space()
	if !c.session.isLarge() {
		c.server.input.release(&c.input)
	}
	if len(buf) > 0 {
		return buf
	}
	if size := c.session.grown(); size > usualInput {
		if !c.claim(&c.server.input, &c.input, int64(size)-c.input.bytes.Load()) {
			return nil
		}
	}
	c.session.grow()
	return c.session.space()
}

// claim waits for n bytes of a budget. The time of the phase that it interrupts
// stands still.
func (c *conn) claim(b *budget, claim *claim, n int64) bool {
	if b.try(claim, n) {
		return true
	}
	before, start := moment(c.moment.Load()), c.server.now()
	c.mark(phaseQueued, start)
	ok := b.wait(claim, n, c.late, c.killed, c.server.peerCtx.Done())
	c.mark(before.phase(), before.since()+c.server.now()-start)
	return ok
}

// waitForReply claims what the session needs to answer.
func (c *conn) waitForReply() bool {
	need := c.session.takeNeed()
	c.server.replies.release(&c.session.claim)
	return c.claim(&c.server.replies, &c.session.claim, need)
}

// giveUp tells the client why the rest of its request is not waited for, unless
// it is the node that stops.
func (c *conn) giveUp(why *protocol.Error) status {
	if c.server.peerCtx.Err() == nil {
		c.net.SetWriteDeadline(time.Now().Add(tellTime))
		c.session.abandon(why)
		c.flush(c.server.now())
		c.account(0)
	}
	return c.session.end
}

// answer executes what was read and writes the replies. It returns the
// session's status, and false if the client cannot be answered.
func (c *conn) answer() (status, bool) {
	before := moment(c.moment.Load())
	start := c.server.now()
	c.mark(phaseExecuting, start)
	want, ok := c.execute(start)
	end := c.server.now()
	requests := c.account(end - start)
	if ok && want == needInput {
		c.await(before, requests, end)
	}
	return want, ok
}

// execute executes what was read and writes the replies.
func (c *conn) execute(at time.Duration) (want status, ok bool) {
	for {
		want = c.session.advance()
		if !c.flush(at) {
			return want, false
		}
		switch want {
		case needRoom:
			if !c.waitForReply() {
				return c.giveUp(protocol.ErrBusy), false
			}
		case needCall:
			c.call()
		case flushOutput:
		default:
			return want, true
		}
		at = c.server.now()
	}
}

// await marks what the connection waits for: its next request, or the rest of
// one, which is due from when its beginning came.
func (c *conn) await(before moment, requests uint64, now time.Duration) {
	switch {
	case requests == 0 && before.phase() != phaseIdle:
		c.moment.Store(uint64(before))
	case c.session.begun():
		c.mark(phaseReceiving, now)
	default:
		c.mark(phaseIdle, now)
	}
}

// flush waits until what the output acknowledges is durable and writes it.
func (c *conn) flush(at time.Duration) bool {
	if t := c.session.takeTicket(); t != 0 {
		if !c.wait(t, at) {
			return false
		}
		at = c.server.now()
	}
	out := c.session.out
	if len(out) == 0 {
		return true
	}
	c.mark(phaseWriting, at)
	var err error
	for len(out) > 0 && err == nil {
		var n int
		n, err = c.net.Write(out[:min(len(out), writeStep)])
		c.bytesOut.Store(c.bytesOut.Load() + uint64(n))
		c.server.metrics.bytesOut.Add(uint64(n))
		out = out[n:]
	}
	c.session.flushed()
	return err == nil
}

// wait returns whether the ticket became durable. If not, nobody may be told
// that it did: the replies are dropped with the connection.
func (c *conn) wait(t journal.Ticket, at time.Duration) bool {
	c.mark(phaseWaiting, at)
	if err := c.server.opts.Store.Wait(c.server.writeCtx, t); err != nil {
		c.server.opts.Logger.Error("writes are not durable; closing their connection", "error", err)
		return false
	}
	return true
}

// account moves what the session counted to the metrics and returns the number
// of requests. How long calls took, which wait for others, says nothing of how
// fast this node answers.
func (c *conn) account(spent time.Duration) uint64 {
	t := &c.session.tally
	n := t.total
	if n > 0 {
		c.session.last.Store(uint32(t.last))
		c.server.metrics.latency.observe(max(0, spent-c.away), n)
		c.away = 0
		t.moveTo(c.server.metrics)
	}
	return n
}

// appendLine appends the connection's line of CLIENT LIST.
func (c *conn) appendLine(dst []byte, now time.Duration) []byte {
	m := moment(c.moment.Load())
	idle := max(0, now-m.since())
	dst = strconv.AppendUint(append(dst, "id="...), c.id, 10)
	dst = append(append(dst, " addr="...), c.net.RemoteAddr().String()...)
	dst = appendSeconds(append(dst, " age="...), now-c.started)
	dst = appendSeconds(append(dst, " idle="...), idle)
	dst = strconv.AppendUint(append(dst, " in="...), c.bytesIn.Load(), 10)
	dst = strconv.AppendUint(append(dst, " out="...), c.bytesOut.Load(), 10)
	dst = append(append(dst, " cmd="...), protocol.ID(c.session.last.Load()).String()...)
	return append(append(dst, " state="...), m.phase().String()...)
}

// linger says that nothing more will be written and reads on for a moment:
// closing a connection with unread input makes the system send a reset, which
// may overtake the last reply. The caller has set a deadline.
func linger(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		io.CopyN(io.Discard, nc, lingerBytes)
	}
}
