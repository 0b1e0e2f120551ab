package antientropy

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// Times of the planner.
const (
	unequalFor    = 2 * time.Second // that gap repair has before a session may look
	yieldFor      = 3 * time.Second // that the greater instance leaves the start to the lower
	afterSession  = time.Second     // before the next one with the same peer, at least
	pullingFor    = 10 * time.Second
	gapRetry      = 10 * time.Second // between two sessions for a gap that stays
	afterDeferred = 5 * time.Second  // before the next one when entries were put off, at most
	afterMoot     = 10 * time.Second // before the next one when all that differed was superseded, at most
	afterFailure  = 15 * time.Second // before the next one after one that broke off, at most
	stuckAfter    = 3                // sessions in a row that moved nothing and ended unequal
)

// PeerState is what is known of one peer at the moment.
type PeerState struct {
	NodeID     string
	Instance   uint64
	Address    string        // where it can be dialled, empty if that is not known
	Live       bool          // it was heard lately
	Hold       bool          // no session is wanted now, whatever differs
	Comparable bool          // its parameters are this node's
	HeadAge    time.Duration // since its newest head was made known here
	Pulling    bool          // changes are being fetched from it
	Unfillable bool          // it has changes that no log can give any more
	Epochs     []EpochPair   // those that both keep, newest first
}

// EpochPair is one epoch as two nodes have it.
type EpochPair struct {
	Epoch        int64
	Own, Theirs  []byte // roots; empty when not told
	VectorsEqual bool   // both have received the same up to it
}

// told reports whether both sides tell their root.
func (e *EpochPair) told() bool { return len(e.Own) > 0 && len(e.Theirs) > 0 }

// Reasons for a session.
const (
	WhyRoots    = "roots"    // roots differ though the same was received
	WhyVectors  = "vectors"  // roots differ, and so does for long what was received
	WhyGap      = "gap"      // something is missing that no log has any more
	WhyInterval = "interval" // equality was not seen for long
	WhyCommand  = "command"  // somebody asked
	WhyServed   = "served"   // the peer started it
)

// Start is a session to be started.
type Start struct {
	Peer PeerState
	Why  string
}

// Planner decides with whom to run a session, and when. It has no clock: now is
// the time since any fixed moment. It is for one goroutine.
type Planner struct {
	instance uint64
	interval time.Duration
	rand     func() float64 // in [0, 1)
	peers    map[uint64]*planned
}

// planned is what the planner remembers of a peer.
type planned struct {
	running   bool
	due       time.Duration // when a session is run without a reason
	unequal   time.Duration // since when vectors differ and roots too; negative: they do not
	unequalAt int64         // the epoch at which they did first
	differs   time.Duration // since when a reason stands; negative: none does
	ended     time.Duration // of the last session
	next      time.Duration // no session before
	delay     time.Duration // after the next failure
	futile    int           // sessions in a row that moved nothing and ended unequal
	sample    [][]byte      // keys that the last of them could not mend
	seen      time.Duration
}

const notYet = -time.Hour

// NewPlanner returns a planner for the node with an instance. interval is how
// long a peer may go without being known to be equal; rand gives numbers in
// [0, 1), for jitter.
func NewPlanner(instance uint64, interval time.Duration, rand func() float64) *Planner {
	return &Planner{instance: instance, interval: interval, rand: rand, peers: make(map[uint64]*planned)}
}

// SetInterval changes how long a peer may go without being known to be equal.
func (p *Planner) SetInterval(d time.Duration) { p.interval = d }

// Decide takes in what is known of the peers and returns the sessions to start
// now, at most room of them, the longest due first. Each must be followed by
// Ended.
func (p *Planner) Decide(now time.Duration, peers []PeerState, room int) []Start {
	var starts []Start
	for i := range peers {
		s := &peers[i]
		m := p.planned(now, s.Instance)
		m.seen = now
		why := p.judge(now, m, s)
		if why == "" {
			m.differs = notYet
			continue
		}
		if m.differs < 0 {
			m.differs = now
		}
		if p.mayStart(now, m, s, why) {
			starts = append(starts, Start{*s, why})
		}
	}
	p.forget(now)
	slices.SortStableFunc(starts, func(a, b Start) int {
		return cmp.Compare(p.peers[a.Peer.Instance].differs, p.peers[b.Peer.Instance].differs)
	})
	starts = starts[:min(len(starts), max(0, room))]
	for _, s := range starts {
		p.peers[s.Peer.Instance].running = true
	}
	return starts
}

func (p *Planner) planned(now time.Duration, instance uint64) *planned {
	m := p.peers[instance]
	if m == nil {
		m = &planned{unequal: notYet, differs: notYet, ended: notYet, delay: afterSession}
		m.due = p.nextDue(now)
		p.peers[instance] = m
	}
	return m
}

// nextDue returns when a peer is looked at without a reason: the interval, give
// or take a fifth.
func (p *Planner) nextDue(now time.Duration) time.Duration {
	return now + time.Duration(float64(p.interval)*(0.8+0.4*p.rand()))
}

// judge returns why a session with a peer is due, "" if none is. Roots are judged
// at the newest common epoch up to which both have received the same; also those
// of a peer that is not alive, as far as others pass its heads on.
func (p *Planner) judge(now time.Duration, m *planned, s *PeerState) string {
	if !s.Comparable || now-s.HeadAge <= m.ended {
		return ""
	}
	seen := compareRoots(s.Epochs)
	switch {
	case seen.proven:
		m.unequal = notYet
	case seen.differing == noEpoch && seen.equal != noEpoch:
		p.seenEqual(now, m)
	case seen.equal != noEpoch:
		m.due = p.nextDue(now)
	}
	m.noteUnequal(now, seen)
	switch lasts := now - m.unequal; {
	case !s.Live:
	case seen.proven:
		return WhyRoots
	case s.Unfillable && now-m.ended >= gapRetry:
		return WhyGap
	case m.unequal >= 0 && lasts >= unequalFor && (!s.Pulling || lasts >= pullingFor):
		return WhyVectors
	case now >= m.due:
		return WhyInterval
	}
	return ""
}

const noEpoch = int64(-1) // there is no such epoch

// comparison is what the epochs that two nodes keep show.
type comparison struct {
	proven    bool  // roots differ at an epoch up to which both received the same
	equal     int64 // the newest epoch with equal roots
	differing int64 // the oldest epoch after it whose roots differ
	told      int   // epochs that were looked at
}

// compareRoots looks at epochs from the newest on, up to the first one that is
// equal: what differs before that has been mended.
func compareRoots(epochs []EpochPair) comparison {
	c := comparison{equal: noEpoch, differing: noEpoch}
	for i := range epochs {
		e := &epochs[i]
		switch {
		case !e.told():
		case bytes.Equal(e.Own, e.Theirs):
			c.equal = e.Epoch
			return c
		case e.VectorsEqual:
			c.proven = true
			return c
		default:
			c.differing = e.Epoch
			c.told++
		}
	}
	return c
}

// noteUnequal keeps the time for which one and the same epoch, or what came after
// it, has not become equal. Under load the newest epoch always differs for a
// moment, and that means nothing.
func (m *planned) noteUnequal(now time.Duration, seen comparison) {
	switch {
	case seen.differing == noEpoch:
		if seen.equal != noEpoch {
			m.unequal = notYet
		}
	case m.unequal < 0, seen.equal != noEpoch && seen.equal >= m.unequalAt,
		// The epoch is gone though there was room for it: a truncation ended all that
		// was kept, and nobody has seen whether it became equal.
		seen.equal == noEpoch && seen.differing > m.unequalAt && seen.told < keptRoots:
		m.unequal, m.unequalAt = now, seen.differing
	}
}

// seenEqual notes that a peer had the same root.
func (p *Planner) seenEqual(now time.Duration, m *planned) {
	m.due, m.unequal = p.nextDue(now), notYet
	m.futile, m.sample, m.delay = 0, nil, afterSession
}

// mayStart reports whether a session that is due may start now. The lower
// instance of a pair starts; if nothing comes of that, the other does.
func (p *Planner) mayStart(now time.Duration, m *planned, s *PeerState, why string) bool {
	if m.running || now < m.next || s.Address == "" || s.Hold {
		return false
	}
	return why == WhyGap || p.instance < s.Instance || now-m.differs >= yieldFor
}

// Began notes that a session with a peer runs which the planner did not start.
func (p *Planner) Began(now time.Duration, instance uint64) { p.planned(now, instance).running = true }

// Ended takes in how a session with a peer ended; nil is one that failed.
func (p *Planner) Ended(now time.Duration, instance uint64, r *Result) {
	m := p.planned(now, instance)
	m.running, m.ended, m.differs = false, now, notYet
	m.due = p.nextDue(now)
	if r != nil {
		m.unequal = notYet // heads will tell anew
	}
	switch {
	case r == nil:
		m.delay = min(m.delay, afterFailure) // the way there may be free again any time
		p.backOff(now, m)
	case r.Equal:
		p.seenEqual(now, m)
		m.next = now + afterSession
	case r.Pulled+r.Pushed > 0:
		m.next, m.delay = now+afterSession, afterSession
	case r.Deferred > 0:
		m.delay = min(m.delay, afterDeferred) // it is due some time, and then at once
		p.backOff(now, m)
	case r.Success: // all that differs is in later epochs, which close some time
		m.delay = min(m.delay, afterMoot)
		p.backOff(now, m)
	default:
		m.futile++
		m.sample = r.Sample
		p.backOff(now, m)
	}
}

// Left takes in that a session with a peer did not come about, because one of the
// two had another one to run, or that it was not meant to mend anything.
func (p *Planner) Left(now time.Duration, instance uint64) {
	m := p.planned(now, instance)
	m.running = false
	m.next = max(m.next, now+afterSession)
}

// backOff puts off the next session, every time for twice as long, up to the
// interval.
func (p *Planner) backOff(now time.Duration, m *planned) {
	limit := max(p.interval, afterSession)
	m.delay = min(m.delay, limit)
	m.next = now + m.delay
	m.delay = min(2*m.delay, limit)
}

// Stuck is a peer with which sessions come to nothing.
type Stuck struct {
	Instance uint64
	Sessions int      // in a row
	Keys     [][]byte // some that differ, at most ten
}

// Stuck returns the peers with which several sessions in a row moved nothing and
// ended unequal, by instance.
func (p *Planner) Stuck() []Stuck {
	var all []Stuck
	for instance, m := range p.peers {
		if m.futile >= stuckAfter {
			all = append(all, Stuck{instance, m.futile, m.sample})
		}
	}
	slices.SortFunc(all, func(a, b Stuck) int { return cmp.Compare(a.Instance, b.Instance) })
	return all
}

// Unequal returns for how long a peer's roots have differed while it has not
// received the same; 0 if they do not differ, or if that explains nothing.
func (p *Planner) Unequal(now time.Duration, instance uint64) time.Duration {
	m := p.peers[instance]
	if m == nil || m.unequal < 0 {
		return 0
	}
	return now - m.unequal
}

const forgetAfter = 10 * time.Minute // a peer that is not among those passed in

func (p *Planner) forget(now time.Duration) {
	for id, m := range p.peers {
		if !m.running && now-m.seen > forgetAfter {
			delete(p.peers, id)
		}
	}
}
