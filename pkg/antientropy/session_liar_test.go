package antientropy

import (
	"errors"
	"strings"
	"testing"

	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// said is a frame that a peer sends.
type said struct {
	t       protocol.FrameType
	payload []byte
}

var handOver = said{protocol.FrameTurn, nil}

func ranges(b ...byte) said { return said{protocol.FrameRanges, b} }

// entriesFrame returns a frame of entries.
func entriesFrame(t protocol.FrameType, entries ...kv.Entry) said {
	b := protocol.AppendEntriesHead(nil, len(entries))
	for _, e := range entries {
		b = protocol.AppendChange(b, &kv.Change{Origin: e.Version.Instance, Entry: e}, false)
	}
	return said{t, b}
}

func openFrame(o Open) said { return said{protocol.FrameSync, o.append(nil)} }

// hear lets a session hear frames; it says what it likes in its own turns.
func hear(s *Session, frames ...said) error {
	finish(s)
	for _, f := range frames {
		if err := s.Receive(f.t, f.payload); err != nil {
			return err
		}
		finish(s)
	}
	return nil
}

// finish lets a session say all that it has to say in its turn.
func finish(s *Session) (frames []said) {
	for s.Sending() {
		t, payload := s.Next()
		frames = append(frames, said{t, payload})
	}
	return frames
}

// Whoever lies is refused, and nothing that is stored changes.
func TestSessionLiars(t *testing.T) {
	shape := newSessionShape(1000, userKey)
	open := openFrame(Open{Root: merkle.Hash{1}})
	digests := func(n int) []byte { return make([]byte, 4*n) }
	list := func(n int, digests []byte) said {
		return ranges(append([]byte{0, byte(n<<1&127 | 1 | 128*min(1, n>>6)), byte(n >> 6)}[:2+min(1, n>>6)], digests...)...)
	}
	fp := digests(2) // a frontier's fingerprint takes 8 bytes
	frontier := func(names ...string) said {
		b := append([]byte{0, byte((len(names) + 1) << 1)}, fp...)
		prev := ""
		for _, name := range names {
			b = append(appendName(b, []byte(prev), []byte(name)), fp...)
			prev = name
		}
		return ranges(b...)
	}
	entry := plainEntry("user:00000001", "lie", at(5, 9))
	outside := plainEntry("zebra", "lie", at(5, 9))
	all := list(0, nil) // all keys are in question, and the peer has none
	for name, c := range map[string]struct {
		initiator bool
		mode      Mode
		frames    []said
	}{
		"no open frame":               {false, Repair, []said{all}},
		"open frame twice":            {false, Repair, []said{open, open}},
		"open frame for an initiator": {true, Repair, []said{open}},
		"another epoch":               {false, Repair, []said{openFrame(Open{Epoch: 7})}},
		"another mode":                {false, Repair, []said{openFrame(Open{Mode: Full})}},
		"an unknown mode":             {false, Repair, []said{openFrame(Open{Mode: 3})}},
		"half an open frame":          {false, Repair, []said{{protocol.FrameSync, open.payload[:20]}}},
		"an empty frame":              {false, Repair, []said{open, ranges()}},
		"no part":                     {false, Repair, []said{open, ranges(0, 0)}},
		"one part":                    {false, Repair, []said{open, ranges(append([]byte{0, 2}, fp...)...)}},
		"parts without end":           {false, Repair, []said{open, ranges(0, 0xfe, 0xff, 0x0f)}},
		"a range unheard of":          {false, Repair, []said{open, ranges(append([]byte{1, 3}, digests(1)...)...)}},
		"the same range twice":        {false, Repair, []said{open, all, all}},
		"a gap without end":           {false, Repair, []said{open, ranges(255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1)}},
		"descending separators":       {false, Repair, []said{open, frontier("b", "a")}},
		"equal separators":            {false, Repair, []said{open, frontier("b", "b")}},
		"an empty separator":          {false, Repair, []said{open, frontier("", "b")}},
		"a separator too long":        {false, Repair, []said{open, frontier(strings.Repeat("x", kv.MaxKeyLen+1))}},
		"half a separator":            {false, Repair, []said{open, ranges(append(append([]byte{0, 4}, fp...), 9)...)}},
		"a name shorter than nothing": {false, Repair, []said{open, ranges(append(append([]byte{0, 4}, fp...), 0x11, 'a')...)}},
		"a list too long":             {false, Repair, []said{open, list(listMax+1, digests(listMax+1))}},
		"a list that ends early":      {false, Repair, []said{open, list(9, digests(8))}},
		"wants of no list":            {false, Repair, []said{open, {protocol.FrameWants, []byte{0, 2, 0}}}},
		"a want beyond a list":        {false, Repair, []said{open, frontier("user:00000020"), handOver, {protocol.FrameWants, []byte{0, 2, 100}}}},
		"a want of odd kind":          {false, Repair, []said{open, frontier("user:00000020"), handOver, {protocol.FrameWants, []byte{0, 3, 0}}}},
		"entries out of the blue":     {false, Repair, []said{open, entriesFrame(protocol.FramePush, entry)}},
		"entries of other keys":       {false, Repair, []said{open, frontier("user:00000020"), handOver, entriesFrame(protocol.FramePush, outside)}},
		"gifts of other keys":         {true, Repair, []said{ranges(append([]byte{0, 5}, digests(2)...)...), handOver, entriesFrame(protocol.FrameGive, outside)}},
		"no entries":                  {false, Repair, []said{open, entriesFrame(protocol.FramePush)}},
		"stubs":                       {false, Repair, []said{open, {protocol.FramePush, protocol.AppendStub(protocol.AppendEntriesHead(nil, 1))}}},
		"entries without a version":   {false, Full, []said{openFrame(Open{Mode: Full}), entriesFrame(protocol.FramePush, kv.Entry{Key: []byte("k")})}},
		"entries in a verification":   {false, Verify, []said{openFrame(Open{Mode: Verify, Root: merkle.Hash{1}}), all, handOver, entriesFrame(protocol.FramePush, entry)}},
		"requests in a verification":  {false, Verify, []said{openFrame(Open{Mode: Verify, Root: merkle.Hash{1}}), {protocol.FrameRequests, []byte{1, 'a'}}}},
		"a request of other keys":     {false, Repair, []said{open, {protocol.FrameRequests, []byte{1, 'z'}}}},
		"offers of an unknown kind":   {false, Repair, []said{open, {protocol.FrameOffers, []byte{9}}}},
		"an offer of other keys":      {false, Repair, []said{open, {protocol.FrameOffers, appendOffer([]byte{offerKey}, nil, []byte("z"), make([]shown, 1))}}},
		"an offer of nothing":         {false, Full, []said{openFrame(Open{Mode: Full}), {protocol.FrameOffers, appendOffer([]byte{offerWhole, 0, 0}, nil, []byte("z"), nil)}}},
		"ranges that overlap":         {false, Full, []said{openFrame(Open{Mode: Full}), {protocol.FrameOffers, []byte{offerWhole, 0, 1, 'b'}}, {protocol.FrameOffers, []byte{offerWhole, 1, 'a', 0}}}},
		"ranges in a full session":    {false, Full, []said{openFrame(Open{Mode: Full}), all}},
		"another kind of frame":       {false, Repair, []said{open, {protocol.FrameHead, []byte{0}}}},
		"a verdict with data":         {false, Repair, []said{open, {protocol.FrameTurn, []byte{0, 0, 0, 0, 0, 0}}}},
		"a turn of nothing":           {false, Repair, []said{open, handOver, handOver}},
		"a strange verdict":           {true, Repair, []said{{protocol.FrameTurn, []byte{0x80, 0, 0, 0, 0, 0}}}},
		"half a verdict":              {true, Repair, []said{{protocol.FrameTurn, []byte{flagRoot, 0, 0, 0, 0, 0, 1, 2, 3}}}},
		"equal all of a sudden":       {false, Repair, []said{open, frontier("user:00000020"), handOver, {protocol.FrameTurn, []byte{flagAgreed}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestReplica(shape)
			s := NewSession(SessionOptions{Initiator: c.initiator, Mode: c.mode, Tree: r.tree, Replica: r, Root: r.root})
			last := len(c.frames) - 1
			if err := hear(s, c.frames[:last]...); err != nil {
				t.Fatalf("before the lie: %v", err)
			}
			err := hear(s, c.frames[last])
			if !errors.Is(err, protocol.ErrPeerMalformed) && !errors.Is(err, protocol.ErrFrameType) {
				t.Errorf("error %v", err)
			}
			if r.applied > 0 || s.Sending() || s.Done() || s.Result().Success {
				t.Errorf("%d entries applied, %+v", r.applied, s.Result())
			}
			if s.Receive(protocol.FrameTurn, nil) == nil {
				t.Error("it goes on after an error")
			}
		})
	}
}

// A peer whose root never matches costs a bounded session and gets no success.
func TestSessionRootNeverMatches(t *testing.T) {
	p := &sessionPair{a: newTestReplica(newSessionShape(1000, userKey)), b: newTestReplica(newSessionShape(1000, userKey))}
	a := NewSession(SessionOptions{Initiator: true, Tree: p.a.tree, Replica: p.a, Root: p.a.root})
	b := NewSession(SessionOptions{Tree: p.b.tree, Replica: p.b, Root: func() (merkle.Hash, bool) { return merkle.Hash{66}, true }})
	b.root = merkle.Hash{65}
	if err := p.pump(a, b); err != nil {
		t.Fatal(err)
	}
	if r := a.Result(); r.Success || r.Equal || r.Turns > 4 || r.BytesIn > 1000 {
		t.Errorf("%+v", r)
	}
}

// Turns and bytes without end are refused.
func TestSessionEndlessPeer(t *testing.T) {
	r := newTestReplica(newSessionShape(1000, userKey))
	whole := entriesFrame(protocol.FramePush, kv.Entry{Key: []byte("k"), Version: at(1, 1), Value: make([]byte, kv.MaxValueLen)})
	s := NewSession(SessionOptions{Mode: Full, Tree: r.tree, Replica: r})
	err, frames := hear(s, openFrame(Open{Mode: Full})), 0
	for ; err == nil && frames < 1000; frames++ {
		err = hear(s, whole)
	}
	if !errors.Is(err, protocol.ErrPeerMalformed) || frames > maxTurnBytes/kv.MaxValueLen+4 {
		t.Errorf("after %d frames: %v", frames, err)
	}

	s = NewSession(SessionOptions{Tree: r.tree, Replica: r})
	err, frames = hear(s, openFrame(Open{}), ranges(0, 1), handOver), 0
	for ; err == nil && frames < 1000; frames++ {
		err = hear(s, entriesFrame(protocol.FrameGive, plainEntry("k", "v", at(1, 1))), handOver)
	}
	if !errors.Is(err, protocol.ErrPeerMalformed) || frames > maxTurns {
		t.Errorf("after %d turns: %v", frames, err)
	}
}

// A session that breaks off leaves what it merged; the next one does the rest.
func TestSessionBreaksOff(t *testing.T) {
	shape := newSessionShape(5000, userKey)
	for stop := 1; stop < 40; stop++ {
		p := &sessionPair{a: newTestReplica(shape), b: newTestReplica(shape)}
		p.scatter(shape, 300, false)
		a, b := p.sessions()
		broken := errors.New("connection lost")
		func() {
			defer func() {
				if v := recover(); v != nil && v != any(broken) {
					panic(v)
				}
			}()
			p.between = func(frame int) {
				if frame == stop {
					panic(broken)
				}
			}
			if err := p.pump(a, b); err != nil {
				t.Fatal(err)
			}
		}()
		if a.Result().Success && !a.Done() {
			t.Fatalf("broken off before frame %d: success", stop)
		}
		p.between = nil
		if r, _ := p.run(t); !r.Success || !r.Equal {
			t.Fatalf("after a session that broke off before frame %d: %+v", stop, r)
		}
	}
}
