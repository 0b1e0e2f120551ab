package antientropy

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// The shapes are made once: a tree of a million keys takes a second.
var (
	usersShape   = sync.OnceValue(func() *sessionShape { return newSessionShape(1_000_000, userKey) })
	randomShape  = sync.OnceValue(func() *sessionShape { return newSessionShape(100_000, randomKey) })
	devicesShape = sync.OnceValue(func() *sessionShape { return newSessionShape(100_000, deviceKey) })
)

func userKey(i int) string { return fmt.Sprintf("user:%08d", i) }

func deviceKey(i int) string {
	return fmt.Sprintf("site%d/dev%d/ch%d", i/1000, i/10%100, i%10)
}

func randomKey(i int) string {
	var key [32]byte
	rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}).Read(key[:])
	return string(key[:])
}

// update overwrites a key on one replica.
func (r *testReplica) update(key string, ms int64, instance uint64) {
	v := kv.Version{HLC: hlc.At(1_700_000_100_000 + ms), Instance: instance}
	r.put(kv.Entry{Key: []byte(key), Version: v, Value: fmt.Appendf(nil, "%08d", ms)})
}

// scatter makes d differences at random keys, half of them on each side, or all
// on a's if oneSided.
func (p *sessionPair) scatter(shape *sessionShape, d int, oneSided bool) {
	rng := rand.New(rand.NewPCG(uint64(d), 7))
	for i, at := range rng.Perm(len(shape.keys))[:d] {
		r, instance := p.a, uint64(0xa1a2a3a4a5a6a7a8)
		if i%2 == 0 && !oneSided {
			r, instance = p.b, 0xb1b2b3b4b5b6b7b8
		}
		r.update(shape.keys[at], int64(i), instance)
	}
}

// price is what a session cost beside the entries that had to move: those that
// won on one of the sides.
func price(p *sessionPair, r Result) int64 {
	return r.BytesIn + r.BytesOut - p.a.movedBytes - p.b.movedBytes
}

// prepare forgets what the differences cost.
func (p *sessionPair) prepare() {
	p.a.drain()
	p.b.drain()
	p.a.movedBytes, p.b.movedBytes = 0, 0
}

func TestSessionPriceScattered(t *testing.T) {
	if raceEnabled {
		t.Skip("a million keys under the race detector")
	}
	for _, shape := range []struct {
		name  string
		shape func() *sessionShape
		// most bytes for so many differences
		most map[int]int64
	}{
		{"user", usersShape, map[int]int64{0: 1200, 1: 1400, 10: 7200, 100: 53_000, 1000: 368_000, 10_000: 2_200_000, 100_000: 8_100_000}},
		{"random", randomShape, map[int]int64{1: 1400, 10: 7200, 100: 53_000, 1000: 368_000, 10_000: 1_000_000}},
		{"devices", devicesShape, map[int]int64{1: 1400, 10: 7200, 100: 53_000, 1000: 368_000, 10_000: 1_000_000}},
	} {
		for _, d := range []int{0, 1, 10, 100, 1000, 10_000, 100_000} {
			most, ok := shape.most[d]
			if !ok {
				continue
			}
			s := shape.shape()
			p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s)}
			p.scatter(s, d, false)
			p.prepare()
			r, _ := p.run(t)
			got := price(p, r)
			t.Logf("%-8s d=%-7d %9d bytes, at most %9d; %d round trips, %d turns, %d moved", shape.name, d, got, most, r.RoundTrips, r.Turns, r.Pulled+r.Pushed)
			if !r.Success || !r.Equal || r.Differing != d || r.Pulled+r.Pushed != d || got > most || r.RoundTrips > 3 {
				t.Errorf("%s, d=%d: %+v", shape.name, d, r)
			}
		}
	}
}

// Differences side by side cost little more than their digests. Where the
// initiator's are the older ones, what it pushed in vain comes on top.
func TestSessionPriceContiguous(t *testing.T) {
	if raceEnabled {
		t.Skip("a million keys under the race detector")
	}
	s := usersShape()
	const inVain = 54 // bytes of an entry of this shape
	for _, c := range []struct {
		d    int
		most int64
	}{{1000, 9000}, {10_000, 55_000}, {100_000, 520_000}} {
		for _, older := range []bool{false, true} {
			if older && c.d > 10_000 {
				continue // the same again
			}
			p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s)}
			side, most := p.a, c.most
			if older {
				side, most = p.b, most+int64(c.d)*inVain
			}
			for i := range c.d {
				side.update(s.keys[345_678+i], int64(i), 0xc1c2c3c4c5c6c7c8)
			}
			p.prepare()
			r, _ := p.run(t)
			got := price(p, r)
			t.Logf("d=%-7d initiator older: %-5v %9d bytes, at most %9d; %d round trips", c.d, older, got, most, r.RoundTrips)
			if !r.Success || !r.Equal || r.Differing != c.d || got > most || r.RoundTrips > 3 {
				t.Errorf("d=%d, older %v: %d round trips, %d differ", c.d, older, r.RoundTrips, r.Differing)
			}
		}
	}
}

// After one session both sides are equal, whoever lacks what.
func TestSessionOneSided(t *testing.T) {
	n := 100_000
	if raceEnabled {
		n = 10_000
	}
	s := newSessionShape(n, userKey)
	without := func(d int) *testReplica {
		r := newTestReplica(s)
		for i := range d {
			r.remove(s.keys[i*(n/d)])
		}
		return r
	}
	few := newTestReplica(nil)
	for i := 0; i < n; i += 1000 {
		few.put(s.entry(s.keys[i]))
	}
	for name, c := range map[string]struct {
		a, b       *testReplica
		moved      int
		most       int64 // bytes beside the entries
		roundTrips int
	}{
		"the initiator has more":  {newTestReplica(s), without(100), 100, 53_000, 3},
		"the responder has more":  {without(100), newTestReplica(s), 100, 53_000, 3},
		"the initiator is empty":  {newTestReplica(nil), newTestReplica(s), n, 4096, 1},
		"the responder is empty":  {newTestReplica(s), newTestReplica(nil), n, 4096, 2},
		"the initiator has a few": {few, newTestReplica(s), n - n/1000, 30_000, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := &sessionPair{a: c.a, b: c.b}
			p.prepare()
			r, _ := p.run(t)
			got := price(p, r)
			t.Logf("%d bytes, %d round trips, %d moved", got, r.RoundTrips, r.Pulled+r.Pushed)
			if !r.Success || !r.Equal || r.Pulled+r.Pushed != c.moved || r.RoundTrips > c.roundTrips || got > c.most {
				t.Errorf("success %v, equal %v, %d moved (want %d), %d round trips, %d bytes", r.Success, r.Equal, r.Pulled+r.Pushed, c.moved, r.RoundTrips, got)
			}
			p.checkEqual(t)
		})
	}
}

// Equal replicas that know so from their heads swap a root and an answer: beside
// what heads carry (epoch and count) no more than 36 bytes and the frames' heads.
func TestSessionPriceOfEquality(t *testing.T) {
	s := newSessionShape(10_000, userKey)
	p := &sessionPair{a: newTestReplica(s), b: newTestReplica(s), told: true}
	r, _ := p.run(t)
	const heads = 3 * 5
	if got := r.BytesIn + r.BytesOut - heads - 3; got > 36 || !r.Success || !r.Equal || r.Turns != 2 {
		t.Errorf("%d bytes, %+v", got, r)
	}
}
