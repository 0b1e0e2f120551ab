package main

import (
	"bytes"
	"slices"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

const (
	planEvery      = 400 * time.Millisecond
	repairInterval = 300 * time.Second
	concurrent     = 3 // sessions of one node at once
)

// plan starts the sessions that are due.
func (n *node) plan() {
	now := n.w.now - n.born
	peers := n.peers()
	if n.w.prof.always && !n.w.calm && len(peers) > 0 && len(n.running) == 0 {
		p := peers[n.w.rng.node.IntN(len(peers))]
		if p.Live && n.enter(p.Instance) {
			n.command(p)
		}
	}
	for _, s := range n.planner.Decide(now, peers, concurrent-len(n.running)) {
		n.running[s.Peer.Instance] = true
		n.repair(s, antientropy.Repair)
	}
	n.after(planEvery, n.plan)
}

// command runs a session such as an operator may ask for, or one as the planner
// would.
func (n *node) command(p antientropy.PeerState) {
	why, mode := antientropy.WhyCommand, antientropy.Repair
	switch n.w.rng.node.IntN(6) {
	case 0:
		mode = antientropy.Full
	case 1:
		mode = antientropy.Verify
	case 2, 3:
		why = antientropy.WhyInterval
	}
	n.repair(antientropy.Start{Peer: p, Why: why}, mode)
}

// peers is what the planner has to know.
func (n *node) peers() []antientropy.PeerState {
	n.core.SetNow(n.w.now - n.born)
	status := n.core.Status()
	if len(status.Clones) > 0 {
		n.w.fail("node %d thinks that %v has its data", n.id, status.Clones)
	}
	var peers []antientropy.PeerState
	for i := range status.Peers {
		p := &status.Peers[i]
		if p.NodeID == "" || p.NodeID == n.name {
			continue
		}
		s := antientropy.PeerState{
			NodeID: p.NodeID, Instance: p.Instance, Address: p.Address, Live: p.Live && status.Ready, Comparable: p.ParamsEqual,
			HeadAge: p.HeadAge, Pulling: status.Pulling > 0,
			Unfillable: slices.ContainsFunc(status.Unfillable, func(u replication.Unfillable) bool { return u.Holder == p.Instance }),
		}
		for _, e := range p.Epochs {
			s.Epochs = append(s.Epochs, antientropy.EpochPair{
				Epoch: e.Epoch, Own: e.Own, Theirs: e.Root, VectorsEqual: e.VectorsEqual,
			})
		}
		peers = append(peers, s)
	}
	return peers
}

// enter takes a seat for a session with a peer.
func (n *node) enter(instance uint64) bool {
	if n.running[instance] || len(n.running) >= concurrent {
		return false
	}
	n.running[instance] = true
	n.planner.Began(n.w.now-n.born, instance)
	return true
}

// leave gives the seat back. A session that had to stand back, or only looked,
// tells the planner nothing.
func (n *node) leave(instance uint64, r *antientropy.Result, err error) {
	delete(n.running, instance)
	now := n.w.now - n.born
	switch {
	case antientropy.IsBusy(err), err == nil && r != nil && r.Mode == antientropy.Verify:
		n.planner.Left(now, instance)
	case err != nil:
		n.planner.Ended(now, instance, nil)
	default:
		n.planner.Ended(now, instance, r)
	}
}

// repair runs a session whose seat is taken.
func (n *node) repair(s antientropy.Start, mode antientropy.Mode) {
	n.w.trace.say("node %d wants a session with %s: %s, %v", n.id, s.Peer.NodeID, s.Why, mode)
	if n.w.prof.strict {
		n.w.fail("node %d wants a session with %s though nothing went wrong: %s", n.id, s.Peer.NodeID, s.Why)
	}
	var result *antientropy.Result
	n.w.connect(n, s.Peer.Address, func(err error) { n.leave(s.Peer.Instance, result, err) }, func(l *link) {
		l.swapHeads(s.Peer.Address, func() {
			if l.b.instance != s.Peer.Instance {
				l.end(nil)
				return
			}
			newDialogue(l, &result).open(s.Why, mode)
		})
	})
}

// dialogue is a session on a link, with both its ends.
type dialogue struct {
	link     *link
	salt     [32]byte
	ends     [2]*antientropy.Session // of who dialled, and of the other
	results  [2]*antientropy.Result
	initiate **antientropy.Result
	roots    [2]*merkle.Hash // of the other end: what adopting it rests on
}

func newDialogue(l *link, result **antientropy.Result) *dialogue {
	d := &dialogue{link: l, initiate: result}
	for i := range d.salt {
		d.salt[i] = byte(l.w.rng.node.Uint32())
	}
	return d
}

// open has the dialler begin at the newest epoch that both keep, else, and for an
// operator, with all that it holds.
func (d *dialogue) open(why string, mode antientropy.Mode) {
	n := d.link.a
	d.link.w.count.sessions++
	var epoch int64
	for _, p := range n.peers() {
		if why != antientropy.WhyCommand && p.Instance == d.link.b.instance {
			epoch, d.roots[0] = n.keptBy(p.Epochs)
		}
	}
	tree, ok := n.index.At(epoch)
	if epoch == 0 || !ok {
		epoch, d.roots[0], tree = 0, nil, n.index.Now()
	}
	o := d.options(n, mode, epoch, tree)
	o.Initiator, o.Theirs = true, d.roots[0]
	d.ends[0] = antientropy.NewSession(o)
	d.pump(0)
}

// keptBy returns the newest of a peer's epochs that this node keeps too, better an
// older one whose root the peer told.
func (n *node) keptBy(epochs []antientropy.EpochPair) (epoch int64, theirs *merkle.Hash) {
	for _, e := range epochs {
		if _, kept := n.index.At(e.Epoch); !kept {
			continue
		}
		if len(e.Theirs) == len(merkle.Hash{}) {
			return e.Epoch, (*merkle.Hash)(bytes.Clone(e.Theirs))
		}
		if epoch == 0 {
			epoch = e.Epoch
		}
	}
	return epoch, nil
}

func (d *dialogue) options(n *node, mode antientropy.Mode, epoch int64, tree merkle.Tree) antientropy.SessionOptions {
	return antientropy.SessionOptions{
		Mode: mode, Salt: d.salt, Epoch: epoch, Tree: tree, Replica: replica{n.store, n},
		Root: func() (merkle.Hash, bool) { return n.rootAt(epoch) },
	}
}

// rootAt returns the root at an epoch of all that has arrived, 0 for the present.
func (n *node) rootAt(epoch int64) (merkle.Hash, bool) {
	if epoch == 0 {
		return n.index.Now().Root(), true
	}
	n.index.Drain()
	n.show()
	t, ok := n.index.At(epoch)
	return t.Root(), ok
}

func (d *dialogue) node(side int) *node { return [2]*node{d.link.a, d.link.b}[side] }

// pump sends an end's next frame.
func (d *dialogue) pump(side int) {
	s := d.ends[side]
	t, payload := s.Next()
	payload = bytes.Clone(payload)
	d.link.w.trace.note("session frame", uint64(d.node(side).id), uint64(t), uint64(len(payload)), sum(payload))
	d.link.w.count.sessionBytes += uint64(len(payload) + protocol.FrameHeaderLen)
	d.link.pass(d.node(1-side), len(payload)+protocol.FrameHeaderLen, func() { d.take(1-side, t, payload) })
	d.next(side)
}

// next goes on with an end that may have something to send or be done.
func (d *dialogue) next(side int) {
	s := d.ends[side]
	switch {
	case s.Done():
		d.finish(side)
	case s.Sending():
		d.link.later(d.node(side), time.Millisecond, func() { d.pump(side) })
	}
}

// take brings a frame to an end.
func (d *dialogue) take(side int, t protocol.FrameType, payload []byte) {
	if t == protocol.FrameSync && !d.accept(payload) || d.ends[side] == nil {
		return // refused
	}
	if err := d.ends[side].Receive(t, payload); err != nil {
		d.link.w.fail("node %d cannot read a session's %v frame: %v", d.node(side).id, t, err)
		d.link.end(err)
		return
	}
	d.next(side)
}

// accept makes the other end, unless that has no seat or does not keep the epoch.
func (d *dialogue) accept(payload []byte) bool {
	n := d.link.b
	open, err := antientropy.DecodeOpen(payload)
	if err != nil {
		d.link.w.fail("node %d cannot read a session's begin: %v", n.id, err)
		return false
	}
	var refusal error
	tree, kept := n.index.Now(), true
	if open.Epoch != 0 {
		tree, kept = n.index.At(open.Epoch)
	}
	switch {
	case !n.enter(d.link.a.instance):
		refusal = antientropy.ErrBusy
	case !kept:
		refusal = antientropy.EpochRefusal(open.Epoch)
		n.leave(d.link.a.instance, nil, refusal)
	default:
		d.link.onOther = func(err error) { n.leave(d.link.a.instance, d.results[1], err) }
		d.roots[1] = &open.Root
		d.ends[1] = antientropy.NewSession(d.options(n, open.Mode, open.Epoch, tree))
		return true
	}
	d.link.w.trace.say("node %d refuses a session with node %d: %v", n.id, d.link.a.id, refusal)
	d.link.pass(d.link.a, 64, func() { d.link.end(refusal) })
	return false
}

// finish takes in what an end of the session says in the end.
func (d *dialogue) finish(side int) {
	n, other, w := d.node(side), d.node(1-side), d.link.w
	r := d.ends[side].Result()
	d.results[side] = &r
	if side == 0 {
		*d.initiate = &r
		w.count.repaired += uint64(r.Pulled + r.Pushed)
		if r.Pulled+r.Pushed == 0 {
			w.count.useless++
		}
		w.trace.say("session of nodes %d and %d at epoch %d: success %v, equal %v, %d pulled, %d pushed, %d moot, %d deferred, %d turns",
			n.id, other.id, r.Epoch, r.Success, r.Equal, r.Pulled, r.Pushed, r.Moot, r.Deferred, r.Turns)
	}
	if root := d.roots[side]; root != nil && r.Epoch != 0 && r.Mode != antientropy.Verify && r.Success && !r.Partial {
		n.call(func() { n.core.Adopt(other.instance, r.Epoch, root[:]) })
	}
	if d.results[0] != nil && d.results[1] != nil {
		d.link.end(nil)
	}
}
