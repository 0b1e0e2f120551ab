package antientropy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// at returns a version that many epochs after the shapes'.
func at(epochs int64, instance uint64) kv.Version {
	return kv.Version{HLC: hlc.At(1_700_000_000_000 + epochs*hlc.MillisPerEpoch), Instance: instance}
}

func plainEntry(key, value string, v kv.Version) kv.Entry {
	return kv.Entry{Key: []byte(key), Version: v, Value: []byte(value)}
}

// drawEntry draws an entry of a small set of names, so that two replicas hold
// the same ones differently.
func drawEntry(t *rapid.T) kv.Entry {
	key := rapid.SampledFrom([]string{"", "a", "aa", "a\x00", "a\xff", "b", "bb", "\x00", "\xff\xff", "user:1", "user:2"}).Draw(t, "key")
	if n := rapid.IntRange(0, 400).Draw(t, "n"); n > 40 && key != "" {
		key += fmt.Sprintf("%03d", n)
	}
	facet := rapid.SampledFrom([]string{"", "", "c1", "c2", "x"}).Draw(t, "facet")
	if key == "" && facet == "" {
		facet = "m"
	}
	e := kv.Entry{Key: []byte(key), Facet: []byte(facet), Version: at(rapid.Int64Range(0, 3).Draw(t, "epoch"), rapid.Uint64Range(1, 3).Draw(t, "instance"))}
	if rapid.IntRange(0, 3).Draw(t, "dead") == 0 {
		e.Flags = kv.Tombstone
		return e
	}
	// One write has one content, wherever it is seen.
	e.Value = []byte(e.Version.String())
	if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
		e.Version.Instance += 10
		e.Value = bytes.Repeat([]byte(e.Version.String()), 60)
	}
	return e
}

// After one session both replicas hold the merge of both, in either mode.
func TestSessionMerges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &sessionPair{a: newTestReplica(nil), b: newTestReplica(nil), salt: rapid.Byte().Draw(t, "salt")}
		p.mode = rapid.SampledFrom([]Mode{Repair, Full}).Draw(t, "mode")
		p.told = rapid.Bool().Draw(t, "told")
		want := newTestReplica(nil)
		for _, r := range []*testReplica{p.a, p.b} {
			for _, e := range rapid.SliceOfN(rapid.Custom(drawEntry), 0, 300).Draw(t, "entries") {
				r.put(e)
				want.put(e)
			}
		}
		for range rapid.IntRange(0, 100).Draw(t, "common") {
			e := drawEntry(t)
			p.a.put(e)
			p.b.put(e)
			want.put(e)
		}
		a, b := p.sessions()
		if err := p.pump(a, b); err != nil {
			t.Fatal(err)
		}
		ra, rb := a.Result(), b.Result()
		if !ra.Success || !ra.Equal || !rb.Success || ra.Differing != rb.Differing || ra.RoundTrips > 4 {
			t.Fatalf("%+v", ra)
		}
		root := want.drain().Root()
		if p.a.drain().Root() != root || p.b.drain().Root() != root {
			t.Fatal("the replicas do not hold the merge")
		}
	})
}

// A verification finds exactly what differs, and changes nothing.
func TestSessionVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &sessionPair{a: newTestReplica(nil), b: newTestReplica(nil), mode: Verify}
		for range rapid.IntRange(0, 300).Draw(t, "common") {
			e := drawEntry(t)
			p.a.put(e)
			p.b.put(e)
		}
		for _, r := range []*testReplica{p.a, p.b} {
			for _, e := range rapid.SliceOfN(rapid.Custom(drawEntry), 0, 20).Draw(t, "entries") {
				r.put(e)
			}
		}
		at, bt := p.a.drain(), p.b.drain()
		want, keys := map[string]bool{}, map[string]bool{}
		for d := range merkle.Diff(at, bt) {
			want[string(d.Key)+"|"+string(d.Facet)] = true
			keys[string(d.Key)] = true
		}
		a, b := p.sessions()
		if err := p.pump(a, b); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Session{a, b} {
			r := s.Result()
			if !r.Success || r.Equal != (len(want) == 0) || r.DifferenceCount != len(want) || len(r.Differences) != len(want) || r.Differing != len(keys) {
				t.Fatalf("%d differ of %d keys: %+v", len(want), len(keys), r)
			}
			for _, d := range r.Differences {
				if !want[string(d.Key)+"|"+string(d.Facet)] {
					t.Fatalf("%q %q does not differ", d.Key, d.Facet)
				}
			}
		}
		if p.a.drain() != at || p.b.drain() != bt {
			t.Fatal("a verification changed something")
		}
	})
}

// Digests of 8 to 12 bits hide differences, and never make a session say that
// it succeeded while they do. Other salts find the rest.
func TestSessionShortDigests(t *testing.T) {
	s := newSessionShape(20_000, userKey)
	failed := 0
	for bits := 8; bits <= 12; bits++ {
		p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s), widths: &sessionWidths{bits, bits, bits}}
		p.scatter(s, 400, false)
		for ; ; p.salt++ {
			r, _ := p.run(t)
			if equal := p.a.drain().Root() == p.b.drain().Root(); r.Success != equal || r.Equal != equal {
				t.Fatalf("%d bits, salt %d: equal %v, %+v", bits, p.salt, equal, r)
			}
			if r.Success {
				break
			}
			if failed++; p.salt == 200 {
				t.Fatalf("%d bits: still different after %d sessions", bits, p.salt)
			}
		}
	}
	if failed == 0 {
		t.Error("no digest collided: this tests nothing")
	}
}

// Two sets whose digests collide under one salt are told apart under the next.
func TestSessionCollisionIsRedrawn(t *testing.T) {
	short := &sessionWidths{8, 8, 8}
	collided := 0
	for i := range 2000 {
		p := &sessionPair{a: newTestReplica(nil), b: newTestReplica(nil), salt: 1, widths: short}
		p.a.put(plainEntry("k", fmt.Sprint(i), at(0, 1)))
		p.b.put(plainEntry("k", fmt.Sprint(i), at(0, 2)))
		if r, _ := p.run(t); r.Success {
			continue
		}
		collided++
		p.salt = 2
		if r, _ := p.run(t); !r.Success {
			p.salt = 3 // one in 256 collides again
			if r, _ := p.run(t); !r.Success {
				t.Fatalf("pair %d collides under every salt", i)
			}
		}
	}
	if collided == 0 {
		t.Error("no pair collided: this tests nothing")
	}
}

// Keys that are prefixes of each other make a path of a tree.
func TestSessionNestedKeys(t *testing.T) {
	p := &sessionPair{a: newTestReplica(nil), b: newTestReplica(nil)}
	for n := 1; n <= kv.MaxKeyLen; n++ {
		e := plainEntry(strings.Repeat("a", n), "v", at(0, 1))
		p.a.put(e)
		if n%7 != 0 {
			p.b.put(e)
		}
	}
	r, _ := p.run(t)
	if !r.Success || !r.Equal || r.RoundTrips > 3 {
		t.Errorf("%d round trips, %d differ, success %v", r.RoundTrips, r.Differing, r.Success)
	}
}

// What both sides hold by now is neither a repair nor a failure, although the
// roots at the epoch differ.
func TestSessionMoot(t *testing.T) {
	s := newSessionShape(1000, userKey)
	p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s)}
	p.a.put(plainEntry(userKey(5), "missed by b", at(1, 1)))
	at1, bt := p.a.drain(), p.b.drain()
	for _, r := range []*testReplica{p.a, p.b} {
		r.put(plainEntry(userKey(5), "both have it", at(2, 2)))
	}
	p.prepare()
	roots := func(t merkle.Tree) func() (merkle.Hash, bool) {
		return func() (merkle.Hash, bool) { return t.Root(), true }
	}
	epoch := at(1, 1).Epoch()
	a := NewSession(SessionOptions{Initiator: true, Epoch: epoch, Tree: at1, Replica: p.a, Root: roots(at1)})
	b := NewSession(SessionOptions{Epoch: epoch, Tree: bt, Replica: p.b, Root: roots(bt)})
	if err := p.pump(a, b); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Session{a, b} {
		if r := s.Result(); !r.Success || r.Equal || r.Moot != 1 || r.Differing != 1 || r.Pulled+r.Pushed != 0 {
			t.Errorf("%+v", r)
		}
	}
}

// An entry of the future is no success.
func TestSessionDeferred(t *testing.T) {
	s := newSessionShape(1000, userKey)
	for _, here := range []bool{true, false} {
		p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s)}
		from, to := p.a, p.b
		if !here {
			from, to = p.b, p.a
		}
		from.put(plainEntry("tomorrow", "v", at(86_400, 1)))
		to.limit = at(60, 0).HLC
		r, _ := p.run(t)
		if r.Success || r.Equal || r.Deferred != 1 || r.Differing != 1 || string(r.Sample[0]) != "tomorrow" {
			t.Errorf("%+v", r)
		}
	}
}

// Large entries are offered first: no value travels that loses.
func TestSessionOffersLargeEntries(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	p := &sessionPair{a: newTestReplica(nil), b: newTestReplica(nil)}
	p.a.put(plainEntry("older here", large, at(0, 1)))
	p.b.put(plainEntry("older here", large+"y", at(1, 1)))
	p.a.put(plainEntry("newer here", large+"z", at(1, 1)))
	p.b.put(plainEntry("newer here", large, at(0, 1)))
	p.a.put(plainEntry("only here", strings.Repeat("w", 1<<20), at(1, 1)))
	p.b.put(plainEntry("only there", large, at(1, 1)))
	for i := range 40 {
		p.b.put(plainEntry(fmt.Sprint("many there", i), large, at(1, 1)))
	}
	p.prepare()
	r, _ := p.run(t)
	if !r.Success || !r.Equal || r.Differing != 44 || price(p, r) > 4096 {
		t.Errorf("%d bytes beside the entries; %+v", price(p, r), r)
	}
	p.checkEqual(t)
}

// All facets of a differing key move, however many frames they fill.
func TestSessionManyFacets(t *testing.T) {
	for _, mode := range []Mode{Repair, Full} {
		p := &sessionPair{a: newTestReplica(nil), b: newTestReplica(nil), mode: mode}
		for i := range 9000 {
			e := kv.Entry{Key: []byte("counter"), Facet: fmt.Appendf(nil, "c%06d", i), Version: at(0, uint64(i)+1), Value: []byte("1")}
			if i%3 != 0 {
				p.a.put(e)
			}
			if i%5 != 0 {
				p.b.put(e)
			}
		}
		r, _ := p.run(t)
		if !r.Success || !r.Equal || r.Differing != 1 {
			t.Errorf("%v: %+v", mode, r)
		}
	}
}

// Both sides go on writing and receiving while sessions run. Nothing is lost,
// and no session says that it failed when all that it saw was merged.
func TestSessionDuringWrites(t *testing.T) {
	s := newSessionShape(5000, userKey)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s)}
		newest := map[string]kv.Version{}
		tick := int64(0)
		write := func() {
			tick++
			r, v := p.a, kv.Version{HLC: sessionBase.HLC + hlc.Timestamp(tick<<20), Instance: 1}
			if rng.IntN(2) == 0 {
				r, v.Instance = p.b, 2
			}
			key := s.keys[rng.IntN(len(s.keys))]
			e := kv.Entry{Key: []byte(key), Version: v, Value: []byte(v.String())}
			r.put(e)
			newest[key] = v
			if rng.IntN(3) > 0 { // most messages arrive
				p.a.put(e)
				p.b.put(e)
			}
		}
		p.between = func(int) {
			for range 10 {
				write()
			}
		}
		for p.salt = 0; p.salt < 5; p.salt++ {
			r, _ := p.run(t)
			if r.Deferred != 0 || r.Partial || r.Differing < r.Moot {
				t.Fatalf("seed %d: %+v", seed, r)
			}
		}
		p.between = nil
		if r, _ := p.run(t); !r.Success || !r.Equal {
			t.Fatalf("seed %d: after the writers stopped: %+v", seed, r)
		}
		for key, v := range newest {
			if got := p.a.Entries(nil, []byte(key)); got[0].Version != v {
				t.Fatalf("seed %d: %s is at %v, written last at %v", seed, key, got[0].Version, v)
			}
		}
		p.checkEqual(t)
	}
}

func TestEpochRefusal(t *testing.T) {
	payload := protocol.AppendFrame(nil, protocol.FrameError, protocol.EncodeCBOR(EpochRefusal(7)))
	_, _, err := protocol.ReadFrame(bytes.NewReader(payload), nil, SessionFrames...)
	if !IsEpochRefusal(err) || IsEpochRefusal(errors.New("other")) {
		t.Errorf("%v", err)
	}
}

// What does not fit into one session is left to the next one, which both sides
// say.
func TestSessionWithinBounds(t *testing.T) {
	shape := newSessionShape(20_000, userKey)
	for name, bounds := range map[string]sessionBounds{
		"parts":  {turnSpans: 60, turnBytes: maxTurnBytes, held: maxHeld},
		"bytes":  {turnSpans: maxTurnSpans, turnBytes: 3000, held: maxHeld},
		"memory": {turnSpans: maxTurnSpans, turnBytes: maxTurnBytes, held: 5000},
	} {
		p := &sessionPair{a: newTestReplica(shape), b: newTestReplica(shape)}
		p.scatter(shape, 3000, false)
		if name == "bytes" {
			p.b = newTestReplica(nil)
		}
		partial := 0
		for p.salt = 0; ; p.salt++ {
			a, b := p.sessions()
			a.bounds, b.bounds = bounds, bounds
			before := p.a.applied + p.b.applied
			if err := p.pump(a, b); err != nil {
				t.Fatal(err)
			}
			r := a.Result()
			if r.Partial != b.Result().Partial || r.Partial && r.Success != r.Equal || r.BytesOut > 40*(bounds.turnBytes+2*protocol.SyncFrameSize) {
				t.Fatalf("%s: %+v", name, r)
			}
			if r.Success {
				break
			}
			if partial++; !r.Partial || p.a.applied+p.b.applied == before || p.salt == 250 {
				t.Fatalf("%s: session %d gets nowhere: %+v", name, p.salt, r)
			}
		}
		if partial == 0 {
			t.Errorf("%s: one session was enough: this tests nothing", name)
		}
		p.checkEqual(t)
	}
}
