package antientropy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// sessionShape is a set of n plain keys that two replicas begin with. It is kept
// as a tree and a rule, so that a million keys are cheap.
type sessionShape struct {
	keys  []string // in order
	index map[string]int
	tree  merkle.Tree
}

var sessionBase = kv.Version{HLC: hlc.At(1_700_000_000_000), Instance: 0x1122334455667788}

func newSessionShape(n int, key func(i int) string) *sessionShape {
	s := &sessionShape{keys: make([]string, n), index: make(map[string]int, n)}
	for i := range s.keys {
		s.keys[i] = key(i)
	}
	slices.Sort(s.keys)
	updates := make([]merkle.Update, n)
	for i, k := range s.keys {
		s.index[k] = i
		e := s.entry(k)
		updates[i] = merkle.Update{Key: e.Key, Tag: merkle.TagOf(&e)}
	}
	s.tree = merkle.Tree{}.Apply(updates)
	return s
}

func (s *sessionShape) entry(key string) kv.Entry {
	return kv.Entry{Key: []byte(key), Version: sessionBase, Value: binary.BigEndian.AppendUint64(nil, uint64(s.index[key]))}
}

// testReplica holds a shape and what was changed since.
type testReplica struct {
	shape *sessionShape // nil: none
	over  map[string]map[string]kv.Entry
	tree  merkle.Tree
	dirty map[string]bool
	limit hlc.Timestamp // entries above are deferred; 0: none

	applied    int
	movedBytes int64 // of the entries that won
}

func newTestReplica(shape *sessionShape) *testReplica {
	r := &testReplica{shape: shape, over: map[string]map[string]kv.Entry{}, dirty: map[string]bool{}}
	if shape != nil {
		r.tree = shape.tree
	}
	return r
}

func (r *testReplica) clone() *testReplica {
	c := *r
	c.over, c.dirty = maps.Clone(r.over), maps.Clone(r.dirty)
	for k, facets := range c.over {
		c.over[k] = maps.Clone(facets)
	}
	return &c
}

// facets returns what is held of a key, to be changed.
func (r *testReplica) facets(key string) map[string]kv.Entry {
	f, ok := r.over[key]
	if !ok {
		f = map[string]kv.Entry{}
		if r.shape != nil {
			if _, ok := r.shape.index[key]; ok {
				f[""] = r.shape.entry(key)
			}
		}
		r.over[key] = f
	}
	return f
}

func (r *testReplica) Entries(dst []kv.Entry, key []byte) []kv.Entry {
	if _, ok := r.over[string(key)]; !ok && r.shape != nil {
		if _, ok := r.shape.index[string(key)]; ok {
			return append(dst, r.shape.entry(string(key)))
		}
		return dst
	}
	for _, e := range r.over[string(key)] {
		dst = append(dst, e.Clone())
	}
	return dst
}

func (r *testReplica) Apply(c *kv.Change) kv.Outcome {
	e := c.Entry.Clone()
	if r.limit != 0 && e.Version.HLC > r.limit {
		return kv.Deferred
	}
	f := r.facets(string(e.Key))
	if old, ok := f[string(e.Facet)]; ok {
		switch kv.Compare(&e, &old) {
		case 0:
			return kv.Known
		case -1:
			return kv.Lost
		}
	}
	f[string(e.Facet)] = e
	r.dirty[string(e.Key)] = true
	r.applied++
	r.movedBytes += int64(len(protocol.AppendChange(nil, &kv.Change{Origin: e.Version.Instance, Entry: e}, false)))
	return kv.Applied
}

// put is a write on this replica alone.
func (r *testReplica) put(e kv.Entry) { r.Apply(&kv.Change{Entry: e}) }

// remove makes a replica never have seen a key.
func (r *testReplica) remove(key string) {
	r.over[key] = map[string]kv.Entry{}
	r.dirty[key] = true
}

// drain brings the tree up to date.
func (r *testReplica) drain() merkle.Tree {
	var updates []merkle.Update
	for _, key := range slices.Sorted(maps.Keys(r.dirty)) {
		var u []merkle.Update
		held := r.over[key]
		if e, ok := held[""]; ok && len(held) == 1 && r.shape != nil { // shapes are plain
			updates = append(updates, merkle.Update{Key: e.Key, Tag: merkle.TagOf(&e)})
			continue
		}
		for it := range r.tree.Range([]byte(key), append([]byte(key), 0)).All() {
			if _, ok := r.over[key][string(it.Facet)]; !ok {
				u = append(u, merkle.Update{Key: []byte(key), Facet: bytes.Clone(it.Facet), Remove: true})
			}
		}
		for facet, e := range r.over[key] {
			u = append(u, merkle.Update{Key: []byte(key), Facet: []byte(facet), Tag: merkle.TagOf(&e)})
		}
		slices.SortFunc(u, func(a, b merkle.Update) int { return bytes.Compare(a.Facet, b.Facet) })
		updates = append(updates, u...)
	}
	r.tree = r.tree.Apply(updates)
	clear(r.dirty)
	return r.tree
}

func (r *testReplica) root() (merkle.Hash, bool) { return r.drain().Root(), true }

// sessionPair is two replicas and how their sessions run.
type sessionPair struct {
	a, b    *testReplica
	mode    Mode
	salt    byte
	told    bool // each knows the other's root
	widths  *sessionWidths
	between func(frame int) // called before every frame
}

func testSalt(n byte) (salt [32]byte) {
	rand.NewChaCha8([32]byte{n}).Read(salt[:])
	return salt
}

func (p *sessionPair) sessions() (a, b *Session) {
	options := func(r *testReplica, initiator bool) SessionOptions {
		return SessionOptions{Initiator: initiator, Mode: p.mode, Salt: testSalt(p.salt), Tree: r.drain(), Replica: r, Root: r.root, widths: p.widths}
	}
	ao, bo := options(p.a, true), options(p.b, false)
	if p.told {
		root := bo.Tree.Root()
		ao.Theirs = &root
	}
	return NewSession(ao), NewSession(bo)
}

// run runs one session and returns what both sides say of it.
func (p *sessionPair) run(t testing.TB) (ra, rb Result) {
	t.Helper()
	a, b := p.sessions()
	if err := p.pump(a, b); err != nil {
		t.Fatal(err)
	}
	ra, rb = a.Result(), b.Result()
	if ra.BytesIn != rb.BytesOut || ra.BytesOut != rb.BytesIn || ra.Turns != rb.Turns || ra.RoundTrips != rb.RoundTrips {
		t.Fatalf("the sides count differently:\n%+v\n%+v", ra, rb)
	}
	if ra.Success != rb.Success || ra.Equal != rb.Equal || ra.Differing != rb.Differing || ra.Moot != rb.Moot || ra.Pulled != rb.Pushed || ra.Pushed != rb.Pulled {
		t.Fatalf("the sides judge differently:\n%+v\n%+v", ra, rb)
	}
	return ra, rb
}

// pump carries frames until both are done. It spoils each payload afterwards, so
// that who keeps one is found out.
func (p *sessionPair) pump(a, b *Session) error {
	var buf []byte
	for frame := 0; !a.Done() || !b.Done(); frame++ {
		if p.between != nil {
			p.between(frame)
		}
		from, to := a, b
		if b.Sending() {
			from, to = b, a
		}
		if !from.Sending() {
			return fmt.Errorf("nobody's turn at frame %d", frame)
		}
		ft, payload := from.Next()
		header := [protocol.FrameHeaderLen]byte(protocol.AppendFrameHeader(nil, ft, len(payload)))
		if _, _, err := protocol.ParseFrameHeader(header); err != nil {
			return fmt.Errorf("frame %d: %w", frame, err)
		}
		buf = append(buf[:0], payload...)
		if err := to.Receive(ft, buf); err != nil {
			return fmt.Errorf("frame %d, %v: %w", frame, ft, err)
		}
		for i := range buf {
			buf[i] = 0xdb
		}
	}
	return nil
}

// checkEqual fails unless both hold the same.
func (p *sessionPair) checkEqual(t testing.TB) {
	t.Helper()
	for d := range merkle.Diff(p.a.drain(), p.b.drain()) {
		t.Fatalf("%q facet %q still differs", d.Key, d.Facet)
	}
}
