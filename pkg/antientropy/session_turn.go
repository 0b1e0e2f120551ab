package antientropy

import (
	"fmt"

	"merklekv/pkg/protocol"
)

// Bounds of a session, on both sides. A sender stays within them and leaves the
// rest to the next session; a receiver refuses what is beyond.
const (
	maxTurns      = 64
	turnsToFinish = 8         // of these, in which nothing new is begun
	maxTurnSpans  = 1 << 17   // parts described in a turn
	maxTurnBytes  = 256 << 20 // bytes of a turn, before its last frame
	maxHeld       = 32 << 20  // bytes kept of what the peer asks for, and of ranges
	maxSettled    = 1 << 18   // keys remembered as dealt with
	frameSlack    = protocol.MaxEntryLen + protocol.FrameHeaderLen
)

// sessionBounds are those that a sender keeps to.
type sessionBounds struct {
	turnSpans int
	turnBytes int64
	held      int
}

// NewSession returns a session before its first frame. The responder's waits for
// the open frame that its options were taken from.
func NewSession(opts SessionOptions) *Session {
	s := &Session{opts: opts, marks: newSessionMarks(opts.Salt, opts.widths), root: opts.Tree.Root()}
	s.bounds = sessionBounds{maxTurnSpans, maxTurnBytes, maxHeld}
	s.sending = opts.Initiator
	s.result = Result{Mode: opts.Mode, Epoch: opts.Epoch, Keys: opts.Tree.Len()}
	whole := span{tree: opts.Tree}
	s.spans = []span{whole}
	s.settled = make(map[uint64]struct{})
	if opts.Mode == Full {
		s.disputed = [][]span{{whole}}
	}
	if opts.Mode == Full && opts.Initiator {
		s.rest = &whole
	}
	return s
}

// Sending reports whether it is this side's turn.
func (s *Session) Sending() bool { return s.sending && !s.done && s.err == nil }

// Done reports whether the session came to its end.
func (s *Session) Done() bool { return s.done }

// Result returns what the session did so far, and after the end its outcome.
func (s *Session) Result() Result {
	r := s.result
	r.Turns, r.RoundTrips = s.turn.number, (s.turn.withData+1)/2
	t := s.own
	if s.peer != nil {
		p := &s.peer.tally
		r.Pushed = int(p.applied)
		r.Partial = r.Partial || s.peer.partial
		t.differing += p.differing
		t.moot += p.moot
		t.deferred += p.deferred
		t.excused += p.excused
	}
	r.Differing, r.Moot, r.Deferred, r.Pulled = int(t.differing), int(t.moot), int(t.deferred), int(s.own.applied)
	if s.done {
		r.Equal, r.Success = s.outcome(&r, t.excused > 0)
	}
	return r
}

// outcome judges a session that came to its end.
func (s *Session) outcome(r *Result, excused bool) (equal, success bool) {
	if s.peer.agreed || s.last != nil && s.last.agreed {
		return true, true
	}
	known := s.peer.root != nil && s.last.root != nil
	equal = known && *s.peer.root == *s.last.root
	clean := !r.Partial && r.Deferred == 0
	if s.opts.Mode == Verify {
		return equal, clean
	}
	return equal, equal || clean && (!known || excused)
}

// Next returns the next frame of this side's turn. The payload is valid until
// the next call of any method.
func (s *Session) Next() (protocol.FrameType, []byte) {
	if !s.Sending() {
		panic("antientropy: Next while it is the other side's turn")
	}
	if !s.opened {
		s.opened = true
		return s.sent(protocol.FrameSync, s.open())
	}
	for len(s.out.ready) == 0 && s.turn.bytes < s.bounds.turnBytes && s.step() {
	}
	if len(s.out.ready) == 0 {
		s.out.flush()
	}
	if len(s.out.ready) > 0 {
		f := s.out.ready[0]
		s.out.ready = s.out.ready[1:]
		return s.sent(f.t, f.payload)
	}
	return s.handOver()
}

// open begins the session.
func (s *Session) open() []byte {
	o := Open{Mode: s.opts.Mode, Epoch: s.opts.Epoch, Count: uint64(s.opts.Tree.Len()), Root: s.root}
	expected := s.opts.Theirs != nil && *s.opts.Theirs == s.root
	if !expected && s.opts.Mode != Full {
		s.todo.answers = append(s.todo.answers, answer{span: s.spans[0]})
	}
	return o.append(nil)
}

// sent counts a frame on its way out.
func (s *Session) sent(t protocol.FrameType, payload []byte) (protocol.FrameType, []byte) {
	n := int64(protocol.FrameHeaderLen + len(payload))
	s.result.BytesOut += n
	s.turn.bytes += n
	s.turn.data = s.turn.data || t != protocol.FrameTurn
	return t, payload
}

// handOver ends this side's turn, with a verdict if it had nothing to say.
func (s *Session) handOver() (protocol.FrameType, []byte) {
	if s.todo.left() {
		s.result.Partial = true
	}
	// An open frame alone leaves the whole range for the responder to describe.
	if s.turn.number > 0 || len(s.out.children)+len(s.out.lists) > 0 {
		s.spans, s.lists = s.out.children, s.out.lists
	}
	clear(s.settled)
	s.out, s.todo, s.sending = sessionOut{}, sessionTodo{}, false
	var payload []byte
	quiet := !s.turn.data
	if quiet {
		s.last = s.judge()
		payload = s.last.append(nil)
		s.done = s.turn.quiet || s.last.agreed
	}
	t, payload := s.sent(protocol.FrameTurn, payload)
	s.endTurn(quiet)
	return t, payload
}

// judge returns this side's verdict.
func (s *Session) judge() *verdict {
	v := &verdict{partial: s.result.Partial, tally: s.own}
	if s.peer != nil && s.peer.agreed {
		return &verdict{agreed: true}
	}
	if s.opts.Root != nil {
		if root, ok := s.opts.Root(); ok {
			v.root = &root
		}
	}
	return v
}

// endTurn counts a turn, of either side.
func (s *Session) endTurn(quiet bool) {
	t := turnState{number: s.turn.number + 1, withData: s.turn.withData, quiet: quiet}
	if !quiet {
		t.withData++
	}
	s.turn = t
}

// Receive takes in a frame of the peer's turn. It keeps nothing of the payload.
// An error wraps protocol.ErrPeerMalformed and ends the session; what was merged
// before stays.
func (s *Session) Receive(t protocol.FrameType, payload []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.sending || s.done || s.opened == (t == protocol.FrameSync) {
		s.err = fmt.Errorf("%w: %w: %v", protocol.ErrPeerMalformed, ErrSessionOver, t)
		return s.err
	}
	n := int64(protocol.FrameHeaderLen + len(payload))
	s.result.BytesIn += n
	s.turn.bytes += n
	if err := s.take(t, payload); err != nil {
		s.err = fmt.Errorf("repair session: %w", err)
	}
	return s.err
}

func (s *Session) take(t protocol.FrameType, payload []byte) error {
	switch {
	case s.turn.bytes > maxTurnBytes+2*frameSlack:
		return malformed("a turn of more than %d bytes", maxTurnBytes)
	case t == protocol.FrameTurn:
		return s.takeTurn(payload)
	case len(payload) == 0:
		return malformed("empty %v frame", t)
	}
	s.turn.data = true
	switch t {
	case protocol.FrameSync:
		return s.takeOpen(payload)
	case protocol.FrameRanges:
		return s.takeRanges(payload)
	case protocol.FrameWants:
		return s.takeWants(payload)
	case protocol.FrameOffers:
		return s.takeOffers(payload)
	case protocol.FrameRequests:
		return s.takeRequests(payload)
	case protocol.FramePush, protocol.FrameGive:
		return s.takeEntries(t == protocol.FramePush, payload)
	}
	return fmt.Errorf("%w: %v in a repair session", protocol.ErrFrameType, t)
}

// takeOpen begins the responder's side.
func (s *Session) takeOpen(payload []byte) error {
	o, err := DecodeOpen(payload)
	if err != nil {
		return err
	}
	if o.Mode != s.opts.Mode || o.Epoch != s.opts.Epoch {
		return malformed("open frame of %v at epoch %d in a session of %v at %d", o.Mode, o.Epoch, s.opts.Mode, s.opts.Epoch)
	}
	s.opened = true
	if o.Root == s.root && o.Mode != Full {
		s.peer = &verdict{agreed: true}
	}
	return nil
}

// takeTurn takes the turn over.
func (s *Session) takeTurn(payload []byte) error {
	s.closeGroup()
	quiet := !s.turn.data
	if quiet != (len(payload) > 0) {
		return malformed("a verdict belongs to an empty turn")
	}
	if s.turn.number > s.lastTurn() {
		return malformed("no end after %d turns", s.turn.number)
	}
	if quiet {
		v, err := decodeVerdict(payload)
		if err != nil {
			return err
		}
		if v.agreed && (s.turn.number != 1 || s.opts.Mode == Full) {
			return malformed("a verdict of equal roots after the start")
		}
		s.peer = &v
		s.done = s.turn.quiet || v.agreed
	}
	s.sending = !s.done
	s.answerOpen()
	s.endTurn(quiet)
	return nil
}

// answerOpen prepares the responder's first turn.
func (s *Session) answerOpen() {
	if s.turn.number > 0 || s.opts.Mode == Full {
		return
	}
	if s.peer != nil && s.peer.agreed {
		s.todo = sessionTodo{}
		return
	}
	if s.turn.nextRange == 0 { // no frontier came: the initiator expected equal roots
		s.todo.answers = append(s.todo.answers, answer{span: s.spans[0]})
	}
}

// lastTurn returns the number of turns after which the peer cannot be honest.
func (s *Session) lastTurn() int {
	if s.opts.Mode == Full {
		return 1 << 20 // as many as there are keys to name
	}
	return maxTurns
}

// finishing reports whether it is too late to begin something new.
func (s *Session) finishing() bool { return s.turn.number >= s.lastTurn()-turnsToFinish }
