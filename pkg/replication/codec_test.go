package replication

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

var update = flag.Bool("update", false, "rewrite the golden messages")

func sampleHead() *Head {
	return &Head{
		NodeID: "node1", Instance: 7, Started: 1_700_000_000_000, Counter: 3, Wall: 1_700_000_005_000,
		Last: vector.Mark{Seq: 12, HLC: hlc.At(1_700_000_004_000)}, Greatest: kv.Version{HLC: hlc.At(1_700_000_004_500), Instance: 9},
		Params: testParams, Address: "node1:7878",
		Vector: []protocol.VectorItem{
			{Instance: 7, Seq: 12, HLC: uint64(hlc.At(1_700_000_004_000))},
			{Instance: 9, Seq: 5, HLC: uint64(hlc.At(1_700_000_004_500))},
		},
		Epochs: []EpochHead{
			{Epoch: 1_700_000_004, Marks: []vector.Mark{{Seq: 12, HLC: hlc.At(1_700_000_004_000)}, {Seq: 5, HLC: hlc.At(1_700_000_004_500)}}},
			{Epoch: 1_700_000_003, Root: []byte{1, 2, 3}, Count: 4, Marks: []vector.Mark{{Seq: 2, HLC: hlc.At(1_700_000_003_000)}, {}}},
		},
		Deferred: []Deferred{{Instance: 11, Seq: 6, Due: 1_700_000_100_000}},
	}
}

// restHead is a head that leaves something out.
func restHead() *Head {
	h := sampleHead()
	h.Rest.add(13, 14)
	return h
}

// fullHead is a head that names others.
func fullHead() *Head {
	h := restHead()
	h.Peers, h.Paused = []string{"node2:7878", "[fd00::3]:7878"}, true
	return h
}

// keptHead is a head of a node that keeps its data, and takes nothing at present.
func keptHead() *Head {
	h := fullHead()
	h.Paused, h.Volume, h.Shut = false, 0xfeedfacecafebeef, true
	return h
}

func sampleChanges() []kv.Change {
	v := kv.Version{HLC: hlc.At(1_700_000_000_000) + 1, Instance: 7}
	return []kv.Change{
		{Origin: 7, Seq: 40, Entry: kv.Entry{Key: []byte("a"), Version: v, Value: []byte("1")}},
		{Origin: 7, Seq: 41, Entry: kv.Entry{Key: []byte("b"), Version: v, Flags: kv.Tombstone}},
		{Origin: 7, Seq: 42, Entry: kv.Entry{Key: []byte("c"), Version: v, Flags: kv.HasExpiry, ExpiresAt: 1_700_000_060_000, Value: []byte(strings.Repeat("v", 600))}},
		{Origin: 7, Seq: 43, Entry: kv.Entry{Facet: []byte("m|n1"), Version: v, Value: []byte("x")}},
		{Origin: 7, Seq: 44, Entry: kv.Entry{Key: []byte("big"), Version: v, Value: make([]byte, MaxBody)}},
	}
}

func sampleBatch(t testing.TB) []byte {
	var b batchBuilder
	for _, c := range sampleChanges() {
		if !b.add(&c) {
			t.Fatalf("change %d does not fit", c.Seq)
		}
	}
	return b.body()
}

func samples(t testing.TB) map[string][]byte {
	signed, plain := NewCodec("cluster", []byte("secret")), NewCodec("cluster", nil)
	presence := protocol.EncodeCBOR(&Presence{Instance: 7, NodeID: "node1", Address: "node1:7878", Version: "1.0.0", Started: 1_700_000_000_000, Up: true, At: 1_700_000_005_000})
	kept := protocol.EncodeCBOR(&Presence{Instance: 7, NodeID: "node1", Address: "node1:7878", Version: "1.0.0", Started: 1_700_000_000_000, Up: true, At: 1_700_000_005_000, Volume: 9})
	return map[string][]byte{
		"batch":           plain.Seal(KindBatch, 7, 1, sampleBatch(t)),
		"batch-signed":    signed.Seal(KindBatch, 7, 1, sampleBatch(t)),
		"head-rest":       plain.Seal(KindHead, 7, 4, EncodeHead(restHead())),
		"head":            plain.Seal(KindHead, 7, 2, EncodeHead(sampleHead())),
		"head-full":       plain.Seal(KindHead, 7, 5, EncodeHead(fullHead())),
		"head-kept":       plain.Seal(KindHead, 7, 6, EncodeHead(keptHead())),
		"presence-kept":   plain.Seal(KindPresence, 7, 7, kept),
		"ask-signed":      signed.Seal(KindAsk, 7, 4, nil),
		"presence-signed": signed.Seal(KindPresence, 7, 3, presence),
	}
}

func TestGoldenMessages(t *testing.T) {
	for name, message := range samples(t) {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(message)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(message); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s: the format has changed:\n%s\nwas\n%s", name, got, want)
		}
	}
}

func TestHeadRoundTrip(t *testing.T) {
	for i, rest := range []Digest{{}, {Count: 2, Sum: 1 << 63}} {
		want := fullHead()
		if i > 0 {
			want = keptHead()
		}
		want.Rest = rest
		got, err := DecodeHead(EncodeHead(want))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("head is\n%+v\nwant\n%+v", got, want)
		}
	}
	nothing := protocol.EncodeCBOR(&headBody{NodeID: "n", Instance: 7, Rest: &Digest{Sum: 1}})
	if _, err := DecodeHead(nothing); !errors.Is(err, ErrMalformed) {
		t.Fatalf("digest of nothing: %v", err)
	}
}

func TestBatchRoundTrip(t *testing.T) {
	for name, c := range map[string]*Codec{"plain": NewCodec("p", nil), "signed": NewCodec("p", []byte("s"))} {
		m, err := c.Open(c.Seal(KindBatch, 7, 1, sampleBatch(t)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := DecodeBatch(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := sampleChanges()
		if b.Instance != 7 || b.First != 40 || b.Last() != 44 {
			t.Fatalf("%s: batch of %d from %d to %d", name, b.Instance, b.First, b.Last())
		}
		for i, got := range b.Changes[:4] {
			if got.Stub || got.Seq != want[i].Seq || kv.Compare(&got.Entry, &want[i].Entry) != 0 ||
				string(got.Entry.Key) != string(want[i].Entry.Key) || string(got.Entry.Facet) != string(want[i].Entry.Facet) {
				t.Errorf("%s: change %d is %+v", name, i, got)
			}
		}
		if !b.Changes[4].Stub || b.Changes[4].Seq != 44 {
			t.Errorf("%s: the entry that is too big is %+v", name, b.Changes[4])
		}
	}
}

func TestBadMessagesAreNamed(t *testing.T) {
	signed, plain := NewCodec("cluster", []byte("secret")), NewCodec("cluster", nil)
	body := sampleBatch(t)
	good := signed.Seal(KindBatch, 7, 1, body)
	tampered := append([]byte(nil), good...)
	tampered[len(tampered)/2] ^= 1
	bomb := envelope{Version: 1, Kind: KindBatch, Instance: 7, Counter: 1, Compressed: true, Body: s2.Encode(nil, make([]byte, 8<<20))}
	other := envelope{Version: 2, Kind: KindBatch, Instance: 7, Counter: 1, Body: body}
	for name, tc := range map[string]struct {
		codec   *Codec
		message []byte
		want    error
	}{
		"unsigned":       {signed, plain.Seal(KindBatch, 7, 1, body), ErrUnsigned},
		"other secret":   {signed, NewCodec("cluster", []byte("x")).Seal(KindBatch, 7, 1, body), ErrForged},
		"other cluster":  {signed, NewCodec("other", []byte("secret")).Seal(KindBatch, 7, 1, body), ErrForged},
		"tampered":       {signed, tampered, ErrForged},
		"other version":  {plain, protocol.EncodeCBOR(&other), ErrVersion},
		"too long":       {plain, make([]byte, MaxMessage+1), ErrOversize},
		"bomb":           {plain, protocol.EncodeCBOR(&bomb), ErrOversize},
		"junk":           {plain, []byte("hello world"), ErrMalformed},
		"empty":          {plain, nil, ErrMalformed},
		"signed, no key": {plain, good, nil},
		"cut short":      {plain, good[:len(good)-1], ErrMalformed},
		"bytes after it": {plain, append(append([]byte(nil), good...), 0), ErrMalformed},
		"no instance":    {plain, plain.Seal(KindBatch, 0, 1, body), ErrMalformed},
	} {
		if _, err := tc.codec.Open(tc.message); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestSmallMessageStaysSmall(t *testing.T) {
	raw := protocol.AppendEntriesHead(nil, 131_072)
	for range 131_072 {
		raw = protocol.AppendStub(raw)
	}
	codec := NewCodec("cluster", nil)
	m, err := codec.Open(codec.Seal(KindBatch, 7, 1, protocol.EncodeCBOR(&batchBody{First: 1, Entries: raw})))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeBatch(m); !errors.Is(err, ErrMalformed) {
		t.Fatalf("131,072 stubs in one message: %v", err)
	}
}

func TestBatchIsFullWithSoManyEntries(t *testing.T) {
	var b batchBuilder
	c := kv.Change{Origin: 7, Seq: 1, Entry: kv.Entry{Key: []byte("k"), Version: kv.Version{HLC: 1, Instance: 7}}}
	for b.add(&c) {
		c.Seq++
	}
	if b.count != protocol.MaxEntries {
		t.Fatalf("%d entries", b.count)
	}
	if got, err := DecodeBatch(&Message{Instance: 7, Body: b.body()}); err != nil || len(got.Changes) != protocol.MaxEntries {
		t.Fatalf("it cannot be read: %v", err)
	}
}

func TestImpossibleSequencesAreRefused(t *testing.T) {
	const high = kv.MaxSeq + 1
	for name, change := range map[string]func(*Head){
		"last":     func(h *Head) { h.Last.Seq = high },
		"vector":   func(h *Head) { h.Vector[1].Seq = high },
		"deferred": func(h *Head) { h.Deferred[0].Seq = high },
	} {
		h := sampleHead()
		change(h)
		if _, err := DecodeHead(EncodeHead(h)); !errors.Is(err, ErrMalformed) {
			t.Errorf("head, %s: %v", name, err)
		}
	}
	raw := protocol.AppendStub(protocol.AppendEntriesHead(nil, 1))
	m := &Message{Instance: 7, Body: protocol.EncodeCBOR(&batchBody{First: high, Entries: raw})}
	if _, err := DecodeBatch(m); !errors.Is(err, ErrMalformed) {
		t.Errorf("batch: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(seeds) < 4 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	for _, path := range seeds {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		message, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	codec := NewCodec("cluster", nil)
	f.Fuzz(func(t *testing.T, message []byte) {
		m, err := codec.Open(message)
		if err != nil {
			return
		}
		if b, err := DecodeBatch(m); err == nil && b.First == 0 {
			t.Fatal("batch that begins at 0")
		}
		if h, err := DecodeHead(m.Body); err == nil {
			if again, err := DecodeHead(EncodeHead(h)); err != nil || !reflect.DeepEqual(h, again) {
				t.Fatalf("head does not survive: %v", err)
			}
		}
		DecodePresence(m.Body)
	})
}

func FuzzDecodeRelay(f *testing.F) {
	f.Add(protocol.EncodeCBOR([]relayBody{{Age: 5, Head: EncodeHead(fullHead())}, {Head: EncodeHead(sampleHead())}}))
	f.Add(protocol.EncodeCBOR([]relayBody{}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		heads, err := DecodeRelay(payload)
		if err != nil {
			return
		}
		for _, h := range heads {
			if h.Age < 0 || h.Age > maxRelayAge || h.Head.Instance == 0 {
				t.Fatalf("%+v", h)
			}
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	change := kv.Change{Origin: 7, Seq: 1, Entry: kv.Entry{
		Key: []byte("user:0000000001x"), Version: kv.Version{HLC: hlc.At(1_700_000_000_000), Instance: 7}, Value: make([]byte, 64)}}
	codec := NewCodec("cluster", []byte("secret"))
	const n = 500
	b.ReportAllocs()
	for b.Loop() {
		var builder batchBuilder
		for i := range uint64(n) {
			change.Seq = i + 1
			builder.add(&change)
		}
		m, err := codec.Open(codec.Seal(KindBatch, 7, 1, builder.body()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := DecodeBatch(m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/change")
}
