package replication

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

const coreEpoch = coreWall/hlc.MillisPerEpoch - 1 // closed when a test core starts

// fakeIndex is what a test says of closed epochs.
type fakeIndex struct{ closed Closed }

// seal closes an epoch with a root of one byte; the three before it have the same.
func (f *fakeIndex) seal(epoch int64, root byte, drained uint64) {
	f.closed = Closed{Sealed: epoch, Drained: drained}
	for i := range int64(keptEpochs) {
		f.closed.Epochs = append(f.closed.Epochs, EpochHead{Epoch: epoch - i, Root: []byte{root}, Count: 1})
	}
}

// rooted returns a core that has joined a, with closed epochs up to coreEpoch,
// whose head was published.
func rooted(t *testing.T) (*Core, *fakeIndex) {
	c, f := joined(t), new(fakeIndex)
	c.set.Closed, c.set.Repair = func() Closed { return f.closed }, func() bool { return true }
	f.seal(coreEpoch, 'r', 0)
	c.at(2 * time.Second).Tick()
	c.Take()
	return c, f
}

// told returns the epochs of which a root may be told, newest first, as how far
// they are behind coreEpoch.
func told(c *Core) (behind []int64) {
	for _, e := range c.head().Epochs {
		if e.Root != nil {
			behind = append(behind, coreEpoch-e.Epoch)
		}
	}
	return behind
}

func change(origin, seq uint64, epoch int64) []protocol.DecodedChange {
	at := hlc.At(epoch*hlc.MillisPerEpoch) + hlc.Timestamp(seq)
	return []protocol.DecodedChange{{Change: kv.Change{Origin: origin, Seq: seq,
		Entry: kv.Entry{Key: []byte{byte(seq)}, Version: kv.Version{HLC: at, Instance: origin}}}}}
}

func batchOf(changes []protocol.DecodedChange) *Batch {
	return &Batch{Instance: changes[0].Origin, First: changes[0].Seq, Changes: changes}
}

func TestRootWaitsForALateChange(t *testing.T) {
	c, f := rooted(t)
	c.OnBatch(batchOf(change(1, 1, coreEpoch-1)))
	if got := told(c); !slices.Equal(got, []int64{2, 3}) {
		t.Fatalf("told %v while a change of epoch -1 is not in the roots", got)
	}
	f.seal(coreEpoch, 's', c.rep.LogHead()-1)
	if got := told(c); !slices.Equal(got, []int64{2, 3}) {
		t.Fatalf("told %v though the roots do not reach the change", got)
	}
	f.seal(coreEpoch, 's', c.rep.LogHead())
	if got := told(c); !slices.Equal(got, []int64{0, 1, 2, 3}) {
		t.Fatalf("told %v after the change was drained", got)
	}
	c.OnBatch(batchOf(change(1, 2, coreEpoch+1)))
	if got := told(c); len(got) != 4 {
		t.Fatalf("told %v after a change of an epoch that is not closed", got)
	}
}

func TestRootsBelowWhatCameOutOfOrderAreNotTold(t *testing.T) {
	c, f := rooted(t)
	st := new(PullState)
	loose := change(7, 1, coreEpoch-2)
	loose[0].Seq = 0
	c.OnEntries(st, loose)
	f.seal(coreEpoch, 's', c.rep.LogHead())
	if got := told(c); !slices.Equal(got, []int64{0, 1, 2}) {
		t.Fatalf("told %v after an entry of epoch -2 without a place", got)
	}
	c.OnPullDone("a:1", 1, st, &protocol.PeerDone{Full: true, Vector: []protocol.VectorItem{
		{Instance: 8, Seq: 5, HLC: uint64(hlc.At((coreEpoch - 1) * hlc.MillisPerEpoch))}}})
	if got := told(c); !slices.Equal(got, []int64{0, 1}) {
		t.Fatalf("told %v after marks up to epoch -1 were taken over", got)
	}
}

func TestYoungGapHoldsRootsBack(t *testing.T) {
	c, f := rooted(t)
	c.OnBatch(batchOf(change(9, 5, coreEpoch-1)))
	f.seal(coreEpoch, 's', c.rep.LogHead())
	if got := told(c); !slices.Equal(got, []int64{2, 3}) {
		t.Fatalf("told %v with something above a young gap at epoch -1", got)
	}
	c.at(c.now + gapHold)
	if got := told(c); len(got) != 4 {
		t.Fatalf("told %v above an old gap", got)
	}
}

func TestNewRootMakesAHead(t *testing.T) {
	c, f := rooted(t)
	heads := func() (n int) {
		for _, a := range c.Take() {
			if a.Kind == ActHead {
				n++
			}
		}
		return n
	}
	c.at(c.now + 500*time.Millisecond).Tick()
	if n := heads(); n != 0 {
		t.Fatalf("%d heads without anything new", n)
	}
	f.seal(coreEpoch+1, 's', 0)
	c.step()
	c.step()
	if n := heads(); n != 1 {
		t.Fatalf("%d heads for a new root", n)
	}
	f.seal(coreEpoch+2, 's', 0)
	c.at(c.now + headGap - 1).step()
	if n := heads(); n != 0 {
		t.Fatalf("%d heads within %v", n, headGap)
	}
	c.at(c.now + headEveryEpoch).Tick()
	c.at(c.now + headEveryEpoch - 1).Tick()
	if n := heads(); n != 1 {
		t.Fatalf("%d heads before the limit without a new root", n)
	}
	c.at(c.now + 1).Tick()
	if n := heads(); n != 1 {
		t.Fatalf("%d heads at the limit", n)
	}
}

// rootHead is a head of a (instance 1) that has received the changes of instance 9
// up to seq at an epoch, with a root.
func rootHead(counter uint64, epoch int64, root byte, seq uint64) *Head {
	h := testHead("a", 1, counter, 0)
	mark := vector.Mark{Seq: seq, HLC: hlc.At(epoch*hlc.MillisPerEpoch) + hlc.Timestamp(seq)}
	if seq > 0 {
		h.Vector = []protocol.VectorItem{{Instance: 9, Seq: mark.Seq, HLC: uint64(mark.HLC)}}
	}
	e := EpochHead{Epoch: epoch, Root: []byte{root}, Count: 3}
	if seq > 0 {
		e.Marks = []vector.Mark{mark}
	}
	h.Epochs = []EpochHead{e}
	return h
}

func TestEpochViews(t *testing.T) {
	rest := func(seq uint64) Digest {
		var d Digest
		d.add(9, seq)
		return d
	}
	for _, tt := range []struct {
		name              string
		head              func() *Head
		have              uint64 // changes of instance 9 received here
		comparable, equal bool
	}{
		{"the same", func() *Head { return rootHead(5, coreEpoch, 'x', 2) }, 2, true, true},
		{"it has more", func() *Head { return rootHead(5, coreEpoch, 'x', 3) }, 2, true, false},
		{"it does not know an instance", func() *Head { return rootHead(5, coreEpoch, 'x', 0) }, 2, true, false},
		{"neither has anything", func() *Head { return rootHead(5, coreEpoch, 'x', 0) }, 0, true, true},
		{"it leaves out the same", func() *Head {
			h := rootHead(5, coreEpoch, 'x', 0)
			h.Rest = rest(2)
			return h
		}, 2, true, true},
		{"it leaves out something else", func() *Head {
			h := rootHead(5, coreEpoch, 'x', 0)
			h.Rest = rest(3)
			return h
		}, 2, true, false},
		{"no common epoch", func() *Head { return rootHead(5, coreEpoch+7, 'x', 2) }, 2, false, true},
		{"no root", func() *Head {
			h := rootHead(5, coreEpoch, 'x', 2)
			h.Epochs[0].Root = nil
			return h
		}, 2, false, true},
		{"other parameters", func() *Head {
			h := rootHead(5, coreEpoch, 'x', 2)
			h.Params.TombstoneGrace++
			return h
		}, 2, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, f := rooted(t)
			for seq := range tt.have {
				c.OnBatch(batchOf(change(9, seq+1, coreEpoch)))
			}
			f.seal(coreEpoch, 'r', c.rep.LogHead())
			c.OnHead(tt.head(), ViaTCP)
			s := c.Status()
			i := slices.IndexFunc(s.Peers, func(p PeerStatus) bool { return p.Instance == 1 })
			v := s.Peers[i].Epochs
			comparable := len(v) == 1 && v[0].Root != nil && v[0].Own != nil && s.Peers[i].ParamsEqual
			if len(v) != 1 || comparable != tt.comparable || v[0].VectorsEqual != tt.equal {
				t.Fatalf("%+v, want comparable %v and equal vectors %v", v, tt.comparable, tt.equal)
			}
			if tt.comparable && !bytes.Equal(v[0].Own, []byte{'r'}) {
				t.Fatalf("own root %q", v[0].Own)
			}
		})
	}
}

// A peer that sent all it held when it answered has not refused what it made
// meanwhile.
func TestWhatIsMadeDuringAPullIsNotRefused(t *testing.T) {
	c, _ := rooted(t)
	c.OnHead(rootHead(5, coreEpoch, 'x', 6), ViaMQTT)
	c.at(c.now + gapPatience).Tick()
	if pull := c.PullFrom("a:1", 1); pull == nil {
		t.Fatal("nothing is pulled")
	}
	prefix := c.vec.Prefix(9).Seq
	c.OnPullDone("a:1", 1, new(PullState), &protocol.PeerDone{Vector: []protocol.VectorItem{{Instance: 9, Seq: prefix, HLC: 3}}})
	if s := c.Status(); s.Gaps == 0 || len(s.Unfillable) != 0 {
		t.Fatalf("%d gaps, unfillable %+v", s.Gaps, s.Unfillable)
	}
}

func TestGapThatNoLogReachesIsLeftToASession(t *testing.T) {
	c, _ := rooted(t)
	floor := &protocol.PeerDone{Floor: true, Vector: []protocol.VectorItem{{Instance: 9, Seq: 4, HLC: 4}}}
	c.OnHead(rootHead(5, coreEpoch, 'x', 4), ViaMQTT)
	c.at(c.now + gapPatience).Tick()
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) {
		t.Fatalf("dials %v", got)
	}
	pull := c.PullFrom("a:1", 1)
	if pull == nil || !pull.Repair {
		t.Fatalf("pull %+v", pull)
	}
	c.OnPullDone("a:1", 1, new(PullState), floor)
	c.OnDialEnded("a:1", nil)
	u := c.Status().Unfillable
	if len(u) != 1 || u[0].Origin != 9 || u[0].Holder != 1 || u[0].Since != 0 {
		t.Fatalf("unfillable %+v", u)
	}
	asked := 0
	for range 600 { // a minute
		c.at(c.now + 100*time.Millisecond)
		c.OnHead(rootHead(c.peers[1].counter+1, coreEpoch, 'x', 4), ViaMQTT)
		c.Tick()
		for range dials(c) {
			if c.PullFrom("a:1", 1) != nil {
				asked++
				c.OnPullDone("a:1", 1, new(PullState), floor)
			}
			c.OnDialEnded("a:1", nil)
		}
	}
	if asked == 0 || asked > 12 {
		t.Fatalf("asked %d times in a minute", asked)
	}
	if u := c.Status().Unfillable; len(u) != 1 || u[0].Since < 50*time.Second {
		t.Fatalf("unfillable %+v", u)
	}
	c.Adopt(1, coreEpoch, []byte{'x'})
	if s := c.Status(); len(s.Unfillable) != 0 || s.Gaps != 0 {
		t.Fatalf("after a session: %+v, %d gaps", s.Unfillable, s.Gaps)
	}
}

func TestAnswerLeavesALostLogToASession(t *testing.T) {
	rep := newMapReplica(7, func() int64 { return coreWall }, 3)
	for range 10 {
		rep.set("k", nil)
	}
	mine := []protocol.VectorItem{{Instance: 7, Seq: 10, HLC: uint64(rep.last.HLC)}}
	for _, repair := range []bool{false, true} {
		var sent int
		done, err := NewAnswer(rep, mine, &protocol.PeerPull{Repair: repair}, func(payload ...[]byte) error {
			changes, err := protocol.DecodeEntries(slices.Concat(payload...), 0, 0)
			sent += len(changes)
			return err
		}).Run()
		if err != nil || done.Full == repair || done.Floor != repair || uint64(sent) != done.Entries {
			t.Errorf("repair %v: %+v, %d sent, %v", repair, done, sent, err)
		}
	}
}

func TestRootsAreTiedToWhatWasReadWithThem(t *testing.T) {
	c, f := rooted(t)
	c.OnBatch(batchOf(change(1, 1, coreEpoch)))
	calls := 0
	c.set.Closed = func() Closed { // one that moves on with each call
		calls++
		f.seal(coreEpoch, byte(calls), c.rep.LogHead()-1+uint64(calls/2))
		return f.closed
	}
	for _, e := range c.epochsTold() {
		if e.Epoch == coreEpoch && e.Root != nil {
			t.Fatal("a root is told that was read before the log was drained so far")
		}
	}
	if calls != 1 {
		t.Fatalf("%d looks at closed epochs for one head", calls)
	}
	if newestRoot(nil) != math.MinInt64 {
		t.Fatal("a root where there is none")
	}
}

// What is written here, and closed, while a head is made is in the root only if it
// is in the vector as well.
func TestVectorHasWhatTheRootsHave(t *testing.T) {
	c, f := rooted(t)
	const now = coreEpoch + 1 // of own changes
	writes := uint64(0)
	c.set.Closed = func() Closed {
		c.rep.(*mapReplica).set("own", nil)
		writes++
		f.seal(now, 'r', c.rep.LogHead())
		return f.closed
	}
	h := c.head()
	i := slices.IndexFunc(h.Vector, func(it protocol.VectorItem) bool { return it.Instance == c.set.Instance })
	if i < 0 || h.Vector[i].Seq != writes || h.Last.Seq != writes {
		t.Fatalf("%d writes are in the root, vector %+v, last %v", writes, h.Vector, h.Last)
	}
	if e := h.Epochs[0]; e.Epoch != now || e.Root == nil || e.Marks[i].Seq != writes {
		t.Fatalf("%d writes are in the root, epoch %+v", writes, e)
	}
}
