package antientropy

import (
	"testing"
	"time"
)

func pairs(p ...EpochPair) []EpochPair { return p }

func pair(own, theirs string, vectorsEqual bool) EpochPair {
	return EpochPair{Epoch: 1, Own: []byte(own), Theirs: []byte(theirs), VectorsEqual: vectorsEqual}
}

const second = time.Second

// Each step shows the planner one peer at a time of its clock and says what it
// starts.
type planStep struct {
	at    time.Duration
	peer  PeerState
	want  string // why a session is started; empty: none is
	ended *Result
}

func TestPlanner(t *testing.T) {
	differ := PeerState{Instance: 2, Address: "p:1", Live: true, Comparable: true, Epochs: pairs(pair("a", "b", true))}
	with := func(change func(*PeerState)) PeerState {
		s := differ
		change(&s)
		return s
	}
	vectors := with(func(s *PeerState) { s.Epochs = pairs(pair("a", "b", false)) })
	equal := with(func(s *PeerState) { s.Epochs = pairs(pair("a", "a", false)) })
	silent := with(func(s *PeerState) { s.Epochs = nil })
	futile, failed := &Result{}, (*Result)(nil)
	// at is a peer whose epochs up to one are equal and later ones, up to another, not.
	at := func(newest, equal int64) PeerState {
		return with(func(s *PeerState) {
			s.Epochs = nil
			for e := newest; e > newest-4; e-- {
				p := EpochPair{Epoch: e, Own: []byte("a"), Theirs: []byte("b")}
				if e <= equal {
					p.Theirs, p.VectorsEqual = p.Own, true
				}
				s.Epochs = append(s.Epochs, p)
			}
		})
	}
	// only is a peer with one epoch in common, which is not equal.
	only := func(epoch int64) PeerState {
		return with(func(s *PeerState) {
			s.Epochs = []EpochPair{{Epoch: epoch, Own: []byte("a"), Theirs: []byte("b")}}
		})
	}
	for name, c := range map[string]struct {
		instance uint64
		steps    []planStep
	}{
		"roots that differ start a session at once": {1, []planStep{{0, differ, WhyRoots, futile}}},
		"the greater instance waits for the lower one": {3, []planStep{
			{0, differ, "", nil}, {yieldFor - 1, differ, "", nil}, {yieldFor, differ, WhyRoots, futile}}},
		"not while the peer is silent":  {1, []planStep{{0, with(func(s *PeerState) { s.Live = false }), "", nil}}},
		"not with other parameters":     {1, []planStep{{0, with(func(s *PeerState) { s.Comparable = false }), "", nil}}},
		"not where there is no address": {1, []planStep{{0, with(func(s *PeerState) { s.Address = "" }), "", nil}}},
		"unequal vectors belong to gap repair for a while": {1, []planStep{
			{0, vectors, "", nil}, {unequalFor - 1, vectors, "", nil}, {unequalFor, vectors, WhyVectors, futile}}},
		"and longer while changes are being fetched": {1, []planStep{
			{0, vectors, "", nil},
			{unequalFor, with(func(s *PeerState) { s.Epochs, s.Pulling = vectors.Epochs, true }), "", nil},
			{pullingFor, with(func(s *PeerState) { s.Epochs, s.Pulling = vectors.Epochs, true }), WhyVectors, futile}}},
		"a moment of equality starts the while anew": {1, []planStep{
			{0, vectors, "", nil}, {second, equal, "", nil}, {unequalFor, vectors, "", nil}}},
		"a newer epoch that is equal excuses an older one": {1, []planStep{
			{0, with(func(s *PeerState) { s.Epochs = pairs(pair("c", "c", true), pair("a", "b", true)) }), "", nil}}},
		"under load the newest epoch always differs for a moment": {1, []planStep{
			{0, at(3, 2), "", nil}, {second, at(4, 3), "", nil}, {2 * second, at(5, 4), "", nil}, {3 * second, at(6, 5), "", nil}}},
		"one that stays different counts, though those before it are equal": {1, []planStep{
			{0, at(3, 2), "", nil}, {second, at(4, 2), "", nil}, {2 * second, at(5, 2), WhyVectors, futile}}},
		"an epoch that a truncation took away may have become equal": {1, []planStep{
			{0, only(3), "", nil}, {second, only(4), "", nil}, {2 * second, only(5), "", nil}, {3 * second, only(5), "", nil}, {4 * second, only(5), WhyVectors, futile}}},
		"what failed is tried again as soon as it may": {1, []planStep{
			{0, vectors, "", nil}, {unequalFor, vectors, WhyVectors, failed}, {unequalFor + second, vectors, WhyVectors, futile}}},
		"not while replication is switched off": {1, []planStep{
			{0, with(func(s *PeerState) { s.Hold = true }), "", nil}, {second, differ, WhyRoots, futile}}},
		"an epoch without a root says nothing": {1, []planStep{
			{0, with(func(s *PeerState) { s.Epochs = pairs(pair("", "b", true), pair("a", "", true)) }), "", nil}}},
		"a gap that no log can fill": {3, []planStep{
			{0, with(func(s *PeerState) { s.Unfillable = true; s.Epochs = nil }), WhyGap, &Result{Equal: true}},
			{gapRetry - 1, with(func(s *PeerState) { s.Unfillable = true; s.Epochs = nil }), "", nil},
			{gapRetry, with(func(s *PeerState) { s.Unfillable = true; s.Epochs = nil }), WhyGap, futile}}},
		"what is under way needs no hurry": {1, []planStep{
			{0, differ, WhyRoots, &Result{Success: true}}, {second, differ, WhyRoots, &Result{Success: true}},
			{2 * second, differ, "", nil}, {3 * second, differ, WhyRoots, futile}}},
		"without news, after the interval": {1, []planStep{
			{0, silent, "", nil}, {47 * second, silent, "", nil}, {72 * second, silent, WhyInterval, futile}}},
		"equality puts the interval off": {1, []planStep{
			{0, silent, "", nil}, {47 * second, equal, "", nil}, {72 * second, silent, "", nil}, {119 * second, silent, WhyInterval, futile}}},
		"what comes to nothing is repeated ever more slowly": {1, []planStep{
			{0, differ, WhyRoots, futile}, {second - 1, differ, "", nil}, {second, differ, WhyRoots, futile},
			{3*second - 1, differ, "", nil}, {3 * second, differ, WhyRoots, failed},
			{7*second - 1, differ, "", nil}, {7 * second, differ, WhyRoots, futile},
			{100 * second, differ, WhyRoots, futile}, {116 * second, differ, WhyRoots, futile},
			{148 * second, differ, WhyRoots, futile}, {208*second - 1, differ, "", nil}, {208 * second, differ, WhyRoots, futile}}},
		"a head from before the last session says nothing": {1, []planStep{
			{0, differ, WhyRoots, &Result{Pulled: 1}},
			{2 * second, with(func(s *PeerState) { s.HeadAge = 2 * second }), "", nil},
			{2 * second, with(func(s *PeerState) { s.HeadAge = second }), WhyRoots, futile}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPlanner(c.instance, 60*second, func() float64 { return 0 })
			for i, step := range c.steps {
				starts := p.Decide(step.at, []PeerState{step.peer}, 1)
				got := ""
				if len(starts) > 0 {
					got = starts[0].Why
					p.Ended(step.at, step.peer.Instance, step.ended)
				}
				if got != step.want {
					t.Fatalf("step %d at %v starts %q, want %q", i, step.at, got, step.want)
				}
			}
		})
	}
}

func TestPlannerTakesNoMoreThanThereIsRoomFor(t *testing.T) {
	p := NewPlanner(1, 60*second, func() float64 { return 0.5 })
	var peers []PeerState
	for i := range 5 {
		peers = append(peers, PeerState{Instance: uint64(i + 2), Address: "p:1", Live: true, Comparable: true, Epochs: pairs(pair("a", "b", true))})
	}
	first := p.Decide(0, peers, 2)
	if len(first) != 2 {
		t.Fatalf("%d sessions are started where 2 may", len(first))
	}
	second := p.Decide(0, peers, 3)
	if len(second) != 3 {
		t.Fatalf("%d sessions are started where 3 may and 3 are left", len(second))
	}
	for _, a := range first {
		for _, b := range second {
			if a.Peer.Instance == b.Peer.Instance {
				t.Fatalf("two sessions with peer %d", a.Peer.Instance)
			}
		}
	}
}

// Only equality ends what is stuck.
func TestPlannerSaysWhatIsStuck(t *testing.T) {
	p := NewPlanner(1, 60*second, func() float64 { return 0.5 })
	for i := range stuckAfter {
		if len(p.Stuck()) != 0 {
			t.Fatalf("stuck after %d sessions", i)
		}
		p.Ended(0, 2, &Result{Sample: [][]byte{[]byte("k")}})
	}
	stuck := p.Stuck()
	if len(stuck) != 1 || stuck[0].Instance != 2 || stuck[0].Sessions != stuckAfter || string(stuck[0].Keys[0]) != "k" {
		t.Fatalf("stuck: %+v", stuck)
	}
	p.Ended(second, 2, &Result{Pulled: 1, Success: true})
	if len(p.Stuck()) != 1 {
		t.Fatal("a session that moved something ended it")
	}
	p.Decide(2*second, []PeerState{{Instance: 2, Live: true, Comparable: true, Epochs: pairs(pair("a", "a", true))}}, 1)
	if len(p.Stuck()) != 0 {
		t.Fatal("equality did not end it")
	}
}
