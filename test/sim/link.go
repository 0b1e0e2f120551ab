package main

import (
	"errors"
	"slices"
	"time"

	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

const (
	dialTimeout = 2 * time.Second
	stepTimeout = 3 * time.Second
)

var (
	errRefused = errors.New("connection refused")
	errTimeout = errors.New("timed out")
	errBroken  = errors.New("connection reset")
)

// link is a connection of two nodes, as far as it matters here: frames arrive in
// order, some time later, or the link ends.
type link struct {
	w       *world
	a, b    *node // a dialled
	lives   [2]int
	arrives [2]time.Duration // the last frame to each end
	coming  [2][]func()      // frames under way to each end, in their order
	ended   bool
	cut     bool        // a frame was lost, and so is all that follows
	onEnd   func(error) // at a, if that is still there
	onOther func(error) // at b; may be nil
}

// dial has a node do what a core's dial asks for.
func (w *world) dial(n *node, addr string) {
	w.connect(n, addr, func(err error) { n.call(func() { n.core.OnDialEnded(addr, err) }) }, func(l *link) { l.exchange(addr) })
}

// connect opens a link to an address. then runs at the dialler; ended does, once,
// when the link is over or none came about.
func (w *world) connect(n *node, addr string, ended func(error), then func(*link)) {
	to := w.at(addr)
	switch {
	case to == nil || !w.net.joined(n.id, to.id):
		n.after(dialTimeout, func() { ended(errTimeout) })
	case !to.up:
		n.after(time.Millisecond, func() { ended(errRefused) })
	default:
		l := &link{w: w, a: n, b: to, lives: [2]int{n.life, to.life}, onEnd: ended}
		l.pass(to, 16, func() { l.pass(n, 64, func() { then(l) }) })
	}
}

// at returns the node with an address.
func (w *world) at(addr string) *node {
	i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.addr == addr })
	if i < 0 {
		return nil
	}
	return w.nodes[i]
}

// end closes the link.
func (l *link) end(err error) {
	if l.ended {
		return
	}
	l.ended = true
	if l.a.up && l.a.life == l.lives[0] {
		l.a.after(0, func() { l.onEnd(err) })
	}
	if l.onOther != nil && l.b.up && l.b.life == l.lives[1] {
		l.b.after(0, func() { l.onOther(err) })
	}
}

// fail ends the link as an end finds out that sees nothing any more.
func (l *link) fail(err error, after time.Duration) {
	if l.cut {
		return
	}
	l.cut = true
	l.w.trace.note("link fails", uint64(l.a.id), uint64(l.b.id))
	l.w.after(after, func() { l.end(err) })
}

// later has an end do something in a while, if the link lasts so long.
func (l *link) later(at *node, d time.Duration, fn func()) {
	at.after(d, func() {
		if !l.ended && !l.cut {
			fn()
		}
	})
}

// pass brings a frame of a number of bytes to an end, where fn takes it in.
func (l *link) pass(to *node, size int, fn func()) {
	l.w.count.linkBytes += uint64(size)
	if l.w.net.breaks() {
		l.fail(errBroken, 0)
		return
	}
	side := 0
	if to == l.b {
		side = 1
	}
	at := max(l.w.now+l.w.net.trip(), l.arrives[side])
	l.arrives[side] = at
	l.coming[side] = append(l.coming[side], fn)
	var arrive func()
	arrive = func() {
		now := l.w.now
		switch {
		case l.ended || l.cut:
		case l.a.life != l.lives[0] || l.b.life != l.lives[1]:
			l.fail(errBroken, 0)
		case !l.w.net.joined(l.a.id, l.b.id):
			l.fail(errTimeout, stepTimeout)
		case to.pause > now+stepTimeout:
			l.fail(errTimeout, stepTimeout)
		case to.pause > now:
			l.w.after(to.pause-now, arrive)
		default:
			// The first one that is under way: a pause may have held it back.
			first := l.coming[side][0]
			l.coming[side] = l.coming[side][1:]
			first()
		}
	}
	l.w.after(at-l.w.now, arrive)
}

// exchange swaps heads and pulls what the dialler's core then asks for.
func (l *link) exchange(addr string) {
	a, b := l.a, l.b
	l.swapHeads(addr, func() {
		var pull *protocol.PeerPull
		a.call(func() { pull = a.core.PullFrom(addr, b.instance) })
		if pull == nil {
			l.end(nil)
			return
		}
		l.pass(b, len(protocol.EncodeCBOR(pull)), func() { l.answer(addr, pull) })
	})
}

// swapHeads has both ends take in each other's head, and those of others that
// each has heard. then runs at the dialler.
func (l *link) swapHeads(addr string, then func()) {
	a, b := l.a, l.b
	var ours, theirs told
	var relay, back []byte
	var err error
	a.call(func() {
		if err = a.core.OnHello(addr, b.hello()); err == nil {
			ours, relay = a.tellHead(), a.core.Relay(b.instance)
		}
	})
	if err != nil {
		l.end(nil)
		return
	}
	l.pass(b, ours.size+len(relay), func() {
		b.call(func() {
			b.core.OnHello("", a.hello())
			b.core.OnRelay(l.w.relayed(relay))
			b.core.OnHead(ours.head, replication.ViaTCP)
			theirs, back = b.tellHead(), b.core.Relay(a.instance)
		})
		l.pass(a, theirs.size+len(back), func() {
			a.call(func() {
				a.core.OnRelay(l.w.relayed(back))
				a.core.OnHead(theirs.head, replication.ViaTCP)
			})
			then()
		})
	})
}

// told is a head that a link carries.
type told struct {
	head *replication.Head
	size int // bytes
}

// tellHead makes a new head for a link.
func (n *node) tellHead() told {
	body := n.core.HeadNow()
	n.w.trace.note("tells", uint64(n.id), sum(body))
	h := n.w.head(body)
	n.w.told(n, h)
	return told{h, len(body)}
}

// answer sends what a pull asks for. It is made at once and arrives frame by
// frame.
func (l *link) answer(addr string, pull *protocol.PeerPull) {
	a, b := l.a, l.b
	st := new(replication.PullState)
	held := b.core.Serve(pull)
	answer := replication.NewAnswer(replica{b.store, b}, held, pull, func(payload ...[]byte) error {
		frame := slices.Concat(payload...)
		l.pass(a, len(frame), func() {
			changes, err := protocol.DecodeEntries(frame, 0, 0)
			if err != nil {
				l.w.fail("node %d answers a pull with what cannot be read: %v", b.id, err)
			}
			l.w.trace.note("pulled", uint64(a.id), uint64(b.id), uint64(len(changes)))
			a.call(func() { a.core.OnEntries(st, changes) })
		})
		return nil
	})
	done, err := answer.Run()
	if err != nil {
		l.w.fail("node %d cannot answer a pull: %v", b.id, err)
	}
	l.w.count.pulls++
	if done.Full {
		l.w.count.fullCopies++
	}
	l.pass(a, 32, func() {
		a.call(func() { a.core.OnPullDone(addr, b.instance, st, done) })
		l.end(nil)
	})
}

// head reads the body of a head that came on a link.
func (w *world) head(body []byte) *replication.Head {
	h, err := replication.DecodeHead(body)
	if err != nil {
		w.fail("a head that cannot be read: %v", err)
		return &replication.Head{}
	}
	return h
}

// relayed reads the heads of others that came on a link.
func (w *world) relayed(payload []byte) []replication.RelayedHead {
	if len(payload) == 0 {
		return nil
	}
	heads, err := replication.DecodeRelay(payload)
	if err != nil {
		w.fail("relayed heads that cannot be read: %v", err)
	}
	return heads
}
