package server

import (
	"bytes"
	"context"
	"sync/atomic"

	"merklekv/pkg/journal"
	"merklekv/pkg/protocol"
)

// Sizes of a connection's buffers, in bytes.
const (
	firstInput = 4 << 10  // what a new connection gets
	usualInput = 16 << 10 // what one with long pipelines grows to
	outLimit   = 64 << 10 // output beyond it is flushed before the next reply
	keptOutput = 2 * outLimit
	keptValue  = 64 << 10 // scratch space that is kept between requests
)

// status is what a session wants of its driver.
type status uint8

const (
	// needInput: all complete requests are executed.
	needInput status = iota
	// flushOutput: the output limit is reached; advance again after a flush.
	flushOutput
	// needRoom: flush, wait for session.need bytes of the reply budget, and
	// advance again.
	needRoom
	// needCall: flush, run session.call, hand its reply to session.called, and
	// advance again.
	needCall
	// closeConn: flush, then close.
	closeConn
	// upgrade: flush, then hand the connection and the rest of the input to the
	// peer protocol.
	upgrade
)

// environment is what the commands of all sessions act on.
type environment struct {
	store    Store
	repair   Repair       // nil: not authorized
	cluster  Cluster      // nil: not authorized
	ready    func() error // why data is not served, nil if it is
	version  string
	peers    bool // whether PEER is served
	shutdown bool // whether SHUTDOWN is allowed
	info     func() []Section
	stats    func() []Field
	replies  *budget
	clients  func() protocol.Elements
	failed   func(command string, err error) // logs an internal error
}

// session is one client's side of the protocol without its socket: bytes in,
// replies out. A driver fills the input, calls advance, waits for the ticket,
// writes the output, and so on.
//
//	    fill            advance                     takeTicket, Wait
//	socket -> input -----------------> output ----------------------> socket
//	                \-> store (Set: ticket) /
//
// A session belongs to one goroutine.
type session struct {
	env     *environment
	parser  protocol.Parser
	dialect protocol.Dialect
	limit   int // greatest request, in bytes

	in     []byte // in[pos:] is not executed yet
	pos    int
	filled bool // whether the last read filled the buffer: more is likely to come
	out    []byte

	// ticket is the greatest one of the writes whose replies are in out.
	ticket journal.Ticket
	// reserved says that this connection is beyond the clients' limit and may
	// only become a peer's.
	reserved bool
	// end is what becomes of the connection after the present request.
	end status
	// lingers says that the client may still be sending what nobody will read.
	lingers bool
	// stops says that the client asked the node to stop.
	stops bool
	// last is the last command as listings show it, moved there with the tally.
	last atomic.Uint32 // protocol.ID

	command  *protocol.Command
	reply    protocol.Reply // being written, while emitting
	element  protocol.Reply
	emitting bool

	scratch []byte // a value on its way from the store to the output
	mget    keyValues
	claim   claim // of the reply budget
	// held is what the present request waits for before it can be answered:
	// needRoom or needCall, needInput for nothing.
	held status
	need int64 // bytes that it lacks, of needRoom
	// call is the part of the request that blocks, of needCall. It does not touch
	// the session.
	call  func(context.Context) protocol.Reply
	tally tally
	ready readiness
}

// readiness remembers within one advance what the node said.
type readiness struct {
	asked bool
	err   *protocol.Error
}

func newSession(env *environment, limit int) *session {
	return &session{env: env, parser: protocol.NewParser(limit), dialect: protocol.Plain{}, limit: limit}
}

// space returns where the driver reads to. It is empty when a request is longer
// than the input buffer; then grow makes room.
func (s *session) space() []byte {
	pending := s.in[s.pos:]
	switch {
	case cap(s.in) == 0:
		s.in = make([]byte, 0, firstInput)
	case s.isLarge() && len(pending) <= firstInput:
		s.resize(usualInput) // the long request is done
	case s.pos > 0:
		s.in, s.pos = s.in[:copy(s.in, pending)], 0
	}
	if s.filled && cap(s.in) < usualInput {
		s.resize(usualInput)
	}
	return s.free()
}

// free returns the part of the space that is there without moving anything.
func (s *session) free() []byte { return s.in[len(s.in):cap(s.in)] }

// grow makes the input buffer four times as large, up to what the longest request
// and its line end take; the parser refuses whatever fills that.
func (s *session) grow() { s.resize(s.grown()) }

// grown is the size that grow makes, in bytes.
func (s *session) grown() int { return max(min(4*cap(s.in), s.limit+len("\r\n")), usualInput) }

// resize moves what is not executed to a buffer of another size.
func (s *session) resize(size int) {
	in := make([]byte, 0, size)
	s.in, s.pos = append(in, s.in[s.pos:]...), 0
}

// isLarge reports whether the input buffer is beyond its usual size.
func (s *session) isLarge() bool { return cap(s.in) > usualInput }

// fill says that n bytes were read to the space.
func (s *session) fill(n int) {
	s.in = s.in[:len(s.in)+n]
	s.filled = len(s.in) == cap(s.in)
}

// begun reports whether there is a part of a request.
func (s *session) begun() bool { return s.pos < len(s.in) }

// abandon answers the part of a request whose rest will not come, if there is
// one, with the error, which is fatal.
func (s *session) abandon(err *protocol.Error) {
	if s.end != needInput || len(bytes.Trim(s.in[s.pos:], " \r\n")) == 0 {
		return
	}
	s.execute(protocol.Request{}, err)
}

// rest returns a copy of the input that is not executed.
func (s *session) rest() []byte { return append([]byte(nil), s.in[s.pos:]...) }

// takeTicket returns the ticket to wait for before the output is written, and
// forgets it.
func (s *session) takeTicket() journal.Ticket {
	t := s.ticket
	s.ticket = 0
	return t
}

// flushed says that the output was written.
func (s *session) flushed() {
	s.out = s.out[:0]
	if !s.emitting && s.held == needInput && s.claim.bytes.Load() != 0 {
		s.env.replies.release(&s.claim)
	}
	if cap(s.out) > keptOutput {
		s.out = nil
	}
}

// advance executes the requests in the input until it needs something of the
// driver.
func (s *session) advance() status {
	s.ready = readiness{}
	for {
		if s.emitting && !s.emit() {
			if s.held != needInput {
				return s.held
			}
			return flushOutput
		}
		if s.end != needInput {
			return s.end
		}
		if len(s.out) >= outLimit {
			return flushOutput
		}
		req, n, err := s.parser.Next(s.in[s.pos:])
		s.pos += n
		if err == protocol.ErrIncomplete {
			return needInput
		}
		s.execute(req, err)
		if s.held != needInput {
			if s.held == needRoom {
				s.pos -= n // once more when there is room
			}
			return s.held
		}
	}
}

// afford reports whether the session may hold n bytes of an answer. If not, it
// needs them, and what it is about is done again when it has them.
func (s *session) afford(n int64) bool {
	lack := n - s.claim.bytes.Load()
	if n <= keptValue || lack <= 0 || s.env.replies.try(&s.claim, lack) {
		return true
	}
	s.held, s.need = needRoom, n
	s.scratch = nil
	return false
}

// takeNeed returns the bytes that the present request lacks, and takes them for
// given.
func (s *session) takeNeed() int64 {
	n := s.need
	s.held, s.need = needInput, 0
	return n
}

// execute answers one request. err is what was wrong with it.
func (s *session) execute(req protocol.Request, err error) {
	s.command = req.Command
	id := protocol.CmdNone
	if req.Command != nil {
		id = req.Command.ID
	}
	switch {
	case s.reserved && (err != nil || id != protocol.CmdPeer):
		s.reply = s.refuse(protocol.ErrTooManyConnections)
	case err != nil:
		s.reply = s.refuse(err)
	case req.Command.Flags&(protocol.Read|protocol.Write) != 0 && !s.isReady():
		s.reply = protocol.ErrorReply(s.ready.err)
	default:
		s.reply = handlers[id](s, req.Args)
	}
	if s.held != needInput {
		s.reply = protocol.Reply{}
		return
	}
	s.tally.count(id, s.reply.Kind == protocol.Failure)
	if err == protocol.ErrRESP {
		s.out = append(s.out, protocol.RESPRefusal...)
		return
	}
	s.write()
}

// write writes the reply, of a list its head.
func (s *session) write() {
	s.out = s.dialect.Append(s.out, s.command, &s.reply)
	s.emitting = s.reply.Elements != nil
	if cap(s.scratch) > keptValue {
		s.scratch = nil
	}
}

// emit writes elements of the reply up to the output limit, and reports whether
// that was all.
func (s *session) emit() bool {
	for len(s.out) < outLimit {
		if !s.reply.Elements.Next(&s.element) {
			s.out = s.dialect.AppendEnd(s.out, s.command, &s.reply)
			s.emitting = false
			s.reply, s.element = protocol.Reply{}, protocol.Reply{}
			return true
		}
		if s.held != needInput {
			return false
		}
		s.out = s.dialect.AppendElement(s.out, s.command, &s.reply, &s.element)
		if cap(s.scratch) > keptValue {
			s.scratch = nil
		}
	}
	return false
}

// refuse answers an error of the protocol, and ends the connection if it is
// fatal.
func (s *session) refuse(err error) protocol.Reply {
	e, ok := err.(*protocol.Error)
	if !ok {
		e = protocol.ErrInternal
	}
	if e.Fatal {
		s.end, s.lingers = closeConn, true
	}
	return protocol.ErrorReply(e)
}

// isReady reports whether data is served, asking the node once an advance.
func (s *session) isReady() bool {
	if !s.ready.asked {
		s.ready.asked = true
		if err := s.env.ready(); err != nil {
			s.ready.err = protocol.NotReady(err.Error())
		}
	}
	return s.ready.err == nil
}

// wrote remembers the ticket of a write.
func (s *session) wrote(t journal.Ticket) { s.ticket = max(s.ticket, t) }
