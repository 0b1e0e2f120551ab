package antientropy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// sendBurst is what sessions may send at once, in bytes, before they are held to
// their rate.
const sendBurst = 64 << 10

// sessionLimit bounds a session, or a peer that sends a byte now and then would keep
// its seat for ever. What was merged until then stays, and the next one goes on.
const sessionLimit = 20 * time.Minute

var errTooLong = errors.New("the session took longer than " + sessionLimit.String())

// plan starts the sessions that are due.
func (r *Repairer) plan(ctx context.Context) {
	limits, peers := r.limits.Load(), r.opts.Peers()
	r.planMu.Lock()
	room := limits.Concurrent - len(r.running)
	if !limits.Enabled {
		room = 0 // but what differs is found out
	}
	starts := r.planner.Decide(r.elapsed(), peers, room)
	for _, s := range starts {
		r.running[s.Peer.Instance] = true
	}
	r.met.stuck.Set(float64(len(r.planner.Stuck())))
	r.planMu.Unlock()
	for _, s := range starts {
		r.working.Go(func() { r.repair(ctx, s) })
	}
}

func (r *Repairer) elapsed() time.Duration { return time.Since(r.start) }

// repair runs a session that the planner started; its seat is taken.
func (r *Repairer) repair(ctx context.Context, s Start) {
	rec := Record{At: time.Now(), NodeID: s.Peer.NodeID, Instance: s.Peer.Instance, Address: s.Peer.Address, Why: s.Why}
	link, err := r.opts.Connect(ctx, s.Peer.Address)
	switch {
	case err != nil:
		rec = r.fail(ctx, rec, err)
	case link.Peer().Instance != s.Peer.Instance:
		link.Close()
		err = ErrBusy // somebody else lives there now; the heads will tell
	default:
		rec, err = r.initiate(ctx, link, s.Peer.Address, s.Why, Repair)
		link.Close()
	}
	r.leave(s.Peer.Instance, &rec, err)
}

// Sync runs a session with the node at an address, now. Its errors are those of
// Connect, ErrBusy, ErrDisabled, and those of the session, after which the record
// tells how far it came. For those that IsBusy knows it is worth asking again soon.
func (r *Repairer) Sync(ctx context.Context, addr string, mode Mode) (Record, error) {
	if !r.limits.Load().Enabled {
		return Record{}, ErrDisabled
	}
	link, err := r.opts.Connect(ctx, addr)
	if err != nil {
		return Record{}, fmt.Errorf("connect to %s: %w", addr, err)
	}
	defer link.Close()
	stop := context.AfterFunc(ctx, link.Close)
	defer stop()
	instance := link.Peer().Instance
	if !r.enter(instance) {
		return Record{}, ErrBusy
	}
	rec, err := r.initiate(ctx, link, addr, WhyCommand, mode)
	r.leave(instance, &rec, err)
	return rec, err
}

// IsBusy reports whether an error of Sync says only that this is not the moment:
// this node or the peer has another session, also one that is just ending, or the
// peer keeps another epoch by now.
func IsBusy(err error) bool {
	var refusal *protocol.PeerError
	if errors.As(err, &refusal) {
		return refusal.Code == protocol.PeerCodeBusy || refusal.Code == protocol.PeerCodeEpoch
	}
	return errors.Is(err, ErrBusy)
}

// Serve runs the other end of a session that a peer opened with a frame of type
// FrameSync. It refuses when sessions are disabled, when as many as may run, and
// at epochs that are not kept.
func (r *Repairer) Serve(ctx context.Context, link Link, payload []byte) error {
	open, err := DecodeOpen(payload)
	if err != nil {
		return refuse(link, protocol.PeerCodeMalformed, err)
	}
	if !r.limits.Load().Enabled {
		return refuse(link, protocol.PeerCodeSync, ErrDisabled)
	}
	peer := link.Peer().Instance
	if !r.enter(peer) {
		return refuse(link, protocol.PeerCodeBusy, ErrBusy)
	}
	rec, err := r.respond(ctx, link, open, payload)
	r.leave(peer, &rec, err)
	if IsBusy(err) {
		return nil // it was said, and the peer asks again
	}
	return err
}

// respond runs the responder's side of a session.
func (r *Repairer) respond(ctx context.Context, link Link, open Open, payload []byte) (Record, error) {
	tree, ok := r.treeAt(open.Epoch)
	if !ok {
		refusal := EpochRefusal(open.Epoch)
		link.Send(protocol.FrameError, protocol.EncodeCBOR(refusal))
		return Record{}, refusal
	}
	s := NewSession(r.sessionOptions(link, open.Mode, open.Epoch, tree))
	if err := s.Receive(protocol.FrameSync, payload); err != nil {
		return Record{}, refuse(link, protocol.PeerCodeMalformed, err)
	}
	rec, err := r.run(ctx, link, s, Record{Why: WhyServed})
	if err == nil {
		r.adopt(ctx, link, &rec.Result, &open.Root)
	}
	return rec, err
}

// refuse tells the peer why, and returns it.
func refuse(link Link, code string, err error) error {
	link.Send(protocol.FrameError, protocol.EncodeCBOR(&protocol.PeerError{Code: code, Message: err.Error()}))
	return err
}

func (r *Repairer) sessionOptions(link Link, mode Mode, epoch int64, tree merkle.Tree) SessionOptions {
	return SessionOptions{
		Mode: mode, Salt: link.Salt(), Epoch: epoch, Tree: tree, Replica: r.opts.Replica,
		Root: func() (merkle.Hash, bool) { return r.rootAt(epoch) },
	}
}

// initiate opens a session on a link and runs it.
func (r *Repairer) initiate(ctx context.Context, link Link, addr, why string, mode Mode) (Record, error) {
	epoch, theirs := r.epochFor(why, link.Peer().Instance)
	tree, ok := r.treeAt(epoch)
	if !ok {
		epoch, theirs = 0, nil
		tree = r.now()
	}
	o := r.sessionOptions(link, mode, epoch, tree)
	o.Initiator, o.Theirs = true, theirs
	s := NewSession(o)
	rec, err := r.run(ctx, link, s, Record{Address: addr, Why: why})
	if err == nil {
		r.adopt(ctx, link, &rec.Result, theirs)
	}
	return rec, err
}

// epochFor returns the newest epoch that a peer is known to keep as well, and
// its root there if it told one; 0 if there is none, for comparing what both hold
// now. Who gives a command means what is there now.
func (r *Repairer) epochFor(why string, instance uint64) (int64, *merkle.Hash) {
	if why == WhyCommand {
		return 0, nil
	}
	for _, p := range r.opts.Peers() {
		if p.Instance != instance {
			continue
		}
		return r.keptBy(p.Epochs)
	}
	return 0, nil
}

// keptBy returns the newest of a peer's epochs that this node keeps too. Better an
// older one whose root the peer told: only there can its vector be taken over.
func (r *Repairer) keptBy(epochs []EpochPair) (epoch int64, theirs *merkle.Hash) {
	for _, e := range epochs {
		if _, kept := r.treeAt(e.Epoch); !kept {
			continue
		}
		if len(e.Theirs) == len(merkle.Hash{}) {
			return e.Epoch, (*merkle.Hash)(e.Theirs)
		}
		if epoch == 0 {
			epoch = e.Epoch
		}
	}
	return epoch, nil
}

// run carries the frames of a session and leaves a record of it.
func (r *Repairer) run(ctx context.Context, link Link, s *Session, rec Record) (Record, error) {
	rec.At, rec.NodeID, rec.Instance = time.Now(), link.Peer().NodeID, link.Peer().Instance
	ctx, cancel := context.WithTimeoutCause(ctx, sessionLimit, errTooLong)
	defer cancel()
	defer context.AfterFunc(ctx, link.Close)()
	r.met.running.Inc()
	err := r.carry(ctx, link, s)
	r.met.running.Dec()
	rec.Took, rec.Result = time.Since(rec.At), s.Result()
	rec.LinkIn, rec.LinkOut = link.In(), link.Out()
	if context.Cause(ctx) == errTooLong {
		err = errTooLong
	}
	if err != nil {
		return r.fail(ctx, rec, err), err
	}
	rec = r.records.add(rec)
	r.met.session(&rec)
	r.log.Info("repair session", "peer", rec.NodeID, "why", rec.Why, "mode", rec.Result.Mode.String(),
		"outcome", rec.Outcome(), "pulled", rec.Result.Pulled, "pushed", rec.Result.Pushed, "moot", rec.Result.Moot,
		"compared", rec.Result.Keys, "bytes_in", rec.Result.BytesIn, "bytes_out", rec.Result.BytesOut,
		"round_trips", rec.Result.RoundTrips, "took", rec.Took.Round(time.Microsecond).String())
	return rec, nil
}

// fail leaves a record of a session that broke off.
func (r *Repairer) fail(ctx context.Context, rec Record, err error) Record {
	rec.Error = err.Error()
	if errors.Is(ctx.Err(), context.Canceled) || IsBusy(err) {
		return rec // the node stops, or there was no session
	}
	rec = r.records.add(rec)
	r.met.session(&rec)
	r.log.Debug("repair session broke off", "peer", rec.NodeID, "why", rec.Why, "err", err)
	return rec
}

func (r *Repairer) carry(ctx context.Context, link Link, s *Session) error {
	for !s.Done() {
		if s.Sending() {
			t, payload := s.Next()
			if err := r.send(ctx, link, t, payload); err != nil {
				return refusalOr(link, err)
			}
			continue
		}
		t, payload, err := link.Receive(SessionFrames...)
		if err != nil {
			return err
		}
		if err := s.Receive(t, payload); err != nil {
			return refuse(link, protocol.PeerCodeMalformed, err)
		}
	}
	return nil
}

// send sends a frame as fast as it may be sent.
func (r *Repairer) send(ctx context.Context, link Link, t protocol.FrameType, payload []byte) error {
	if r.limiter.Limit() == rate.Inf {
		return link.Send(t, payload)
	}
	return link.SendPaced(t, payload, func(bytes int) error { return r.throttle(ctx, bytes) })
}

// refusalOr returns the refusal that a peer sent before it hung up, if there is
// one, else err.
func refusalOr(link Link, err error) error {
	var refusal *protocol.PeerError
	if _, _, last := link.Receive(); errors.As(last, &refusal) {
		return last
	}
	return err
}

// throttle waits until so many bytes may be sent.
func (r *Repairer) throttle(ctx context.Context, bytes int) error {
	for bytes > 0 {
		n := min(bytes, sendBurst)
		if err := r.limiter.WaitN(ctx, n); err != nil {
			return err
		}
		bytes -= n
	}
	return nil
}

// adopt tells what a session has shown: that this node has all that the peer's
// set held when its root was this one.
func (r *Repairer) adopt(ctx context.Context, link Link, result *Result, root *merkle.Hash) {
	if root != nil && result.Epoch != 0 && result.Mode != Verify && result.Success && !result.Partial {
		r.opts.Adopt(ctx, link.Peer().Instance, result.Epoch, *root)
	}
}

// enter takes a seat for a session with a peer.
func (r *Repairer) enter(instance uint64) bool {
	r.planMu.Lock()
	defer r.planMu.Unlock()
	if r.running[instance] || len(r.running) >= r.limits.Load().Concurrent {
		return false
	}
	r.running[instance] = true
	r.planner.Began(r.elapsed(), instance)
	return true
}

// leave gives the seat back after a session that left a record, or an error.
func (r *Repairer) leave(instance uint64, rec *Record, err error) {
	r.planMu.Lock()
	defer r.planMu.Unlock()
	delete(r.running, instance)
	switch {
	case IsBusy(err), err == nil && rec.Result.Mode == Verify:
		r.planner.Left(r.elapsed(), instance)
	case err != nil:
		r.planner.Ended(r.elapsed(), instance, nil)
	default:
		r.planner.Ended(r.elapsed(), instance, &rec.Result)
	}
}
