package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

var updatePeer = flag.Bool("update-peer", false, "rewrite the golden frames")

func peerFrames() map[string][]byte {
	v := kv.Version{HLC: hlc.At(1_700_000_000_000) + 1, Instance: 7}
	change := kv.Change{Origin: 7, Seq: 40, Entry: kv.Entry{Key: []byte("a"), Version: v, Value: []byte("1")}}
	entries := AppendChange(AppendEntriesHead(nil, 1), &change, false)
	return map[string][]byte{
		"hello": AppendFrame(nil, FrameHello, EncodeCBOR(&PeerHello{Version: 1, NodeID: "n1", Instance: 7, Prefix: "p",
			Address: "n1:7878", Nonce: make([]byte, PeerNonceLen), Started: 5, Params: PeerParams{EpochMillis: 1000, TombstoneGrace: 3600}, Secret: true})),
		"hello-kept": AppendFrame(nil, FrameHello, EncodeCBOR(&PeerHello{Version: 1, NodeID: "n1", Instance: 7, Prefix: "p",
			Address: "n1:7878", Nonce: make([]byte, PeerNonceLen), Started: 5, Params: PeerParams{EpochMillis: 1000, TombstoneGrace: 3600}, Volume: 9})),
		"auth":    AppendFrame(nil, FrameAuth, PeerMAC([]byte("secret"), "dialler", []byte("a"), []byte("b"))),
		"pull":    AppendFrame(nil, FramePull, EncodeCBOR(&PeerPull{Vector: []VectorItem{{Instance: 7, Seq: 3, HLC: 9}}, Spans: []VectorSpan{{Instance: 7, Low: 5, High: 6}}, Origins: []uint64{7}})),
		"entries": AppendFrame(nil, FrameEntries, entries),
		"done":    AppendFrame(nil, FrameDone, EncodeCBOR(&PeerDone{Vector: []VectorItem{{Instance: 7, Seq: 3, HLC: 9}}, Full: true, Entries: 2})),
		"error":   AppendFrame(nil, FrameError, EncodeCBOR(&PeerError{Code: PeerCodeBusy, Message: "4 pulls are being served"})),
	}
}

func TestGoldenPeerFrames(t *testing.T) {
	for name, frame := range peerFrames() {
		path := filepath.Join("testdata", "peer", name+".hex")
		if *updatePeer {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(frame)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(frame); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s: the format has changed:\n%s\nwas\n%s", name, got, want)
		}
	}
}

func TestReadFrameChecksBeforeItReads(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"too long":     {[]byte{0, 1, 0, 0, byte(FrameHello)}, ErrFrameTooLong},
		"unknown type": {[]byte{0, 0, 0, 0, 99}, ErrFrameType},
		"out of turn":  {AppendFrame(nil, FramePull, []byte{0xa0}), ErrFrameType},
		"bad refusal":  {AppendFrame(nil, FrameError, []byte{0xff}), ErrPeerMalformed},
	} {
		if _, _, err := ReadFrame(bytes.NewReader(tc.in), nil, FrameHello); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	var refusal *PeerError
	in := peerFrames()["error"]
	if _, _, err := ReadFrame(bytes.NewReader(in), nil, FrameHello); !errors.As(err, &refusal) || refusal.Code != PeerCodeBusy {
		t.Errorf("a refusal is read as %v", err)
	}
	for n := range in {
		if _, _, err := ReadFrame(bytes.NewReader(in[:n]), nil, FrameHello); err == nil {
			t.Errorf("a frame cut at %d is accepted", n)
		}
	}
}

// libraryChange is a change as the CBOR library would write it.
type libraryChange struct {
	Key      []byte `cbor:"1,keyasint,omitempty"`
	Facet    []byte `cbor:"2,keyasint,omitempty"`
	HLC      uint64 `cbor:"3,keyasint"`
	Instance uint64 `cbor:"4,keyasint,omitempty"`
	Flags    uint8  `cbor:"5,keyasint,omitempty"`
	Expires  int64  `cbor:"6,keyasint,omitempty"`
	Value    []byte `cbor:"7,keyasint,omitempty"`
	Origin   uint64 `cbor:"8,keyasint,omitempty"`
	Seq      uint64 `cbor:"9,keyasint,omitempty"`
}

func drawChange(t *rapid.T) kv.Change {
	c := kv.Change{Origin: rapid.Uint64Range(1, 1<<63).Draw(t, "origin"), Seq: rapid.Uint64Max(kv.MaxSeq).Draw(t, "seq")}
	e := &c.Entry
	e.Key = rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")
	e.Facet = rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, "facet")
	e.Version = kv.Version{HLC: hlc.Timestamp(rapid.Uint64Min(1).Draw(t, "hlc")), Instance: c.Origin}
	if rapid.Bool().Draw(t, "other") {
		e.Version.Instance = rapid.Uint64Min(1).Draw(t, "instance")
	}
	if rapid.Bool().Draw(t, "tombstone") {
		e.Flags = kv.Tombstone
	} else {
		e.Value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
	}
	if rapid.Bool().Draw(t, "expires") {
		e.Flags |= kv.HasExpiry
		e.ExpiresAt = rapid.Int64Range(1, kv.MaxExpiry).Draw(t, "at")
	}
	return c
}

func TestEntriesAreWhatTheLibraryWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawChange(t)
		e := &c.Entry
		lib := libraryChange{Key: e.Key, Facet: e.Facet, HLC: uint64(e.Version.HLC), Flags: uint8(e.Flags),
			Expires: e.ExpiresAt, Value: e.Value, Origin: c.Origin, Seq: c.Seq}
		if e.Version.Instance != c.Origin {
			lib.Instance = e.Version.Instance
		}
		got := AppendChange(AppendEntriesHead(nil, 1), &c, false)
		if want := EncodeCBOR([]libraryChange{lib}); !bytes.Equal(got, want) {
			t.Fatalf("written %x, the library writes %x", got, want)
		}
		if len(got) > ChangeSize(&c) {
			t.Fatalf("%d bytes, announced %d", len(got), ChangeSize(&c))
		}
		back, err := DecodeEntries(got, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		checkChange(t, &back[0].Change, &c)
	})
}

func checkChange(t *rapid.T, got, want *kv.Change) {
	if got.Origin != want.Origin || got.Seq != want.Seq || got.Entry.Version != want.Entry.Version ||
		!bytes.Equal(got.Entry.Key, want.Entry.Key) || !bytes.Equal(got.Entry.Facet, want.Entry.Facet) ||
		kv.Compare(&got.Entry, &want.Entry) != 0 {
		t.Fatalf("read %+v, want %+v", got, want)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	type future struct {
		libraryChange
		More map[string][]float64 `cbor:"20,keyasint"`
		Text string               `cbor:"300,keyasint"`
	}
	in := EncodeCBOR([]future{{
		libraryChange: libraryChange{Key: []byte("k"), HLC: 5, Value: []byte("v"), Origin: 3, Seq: 4},
		More:          map[string][]float64{"a": {0, 1.5, 1e300}}, Text: "x",
	}})
	got, err := DecodeEntries(in, 0, 0)
	if err != nil || len(got) != 1 || string(got[0].Entry.Value) != "v" || got[0].Seq != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestBadEntriesAreRefused(t *testing.T) {
	type m map[uint64]any
	for name, in := range map[string][]byte{
		"no array":        EncodeCBOR(m{3: 1}),
		"no version":      EncodeCBOR([]m{{1: []byte("k"), 8: 3}}),
		"unknown flags":   EncodeCBOR([]m{{1: []byte("k"), 3: 1, 5: 128, 8: 3}}),
		"long key":        EncodeCBOR([]m{{1: make([]byte, kv.MaxKeyLen+1), 3: 1, 8: 3}}),
		"stub, no place":  {0x81, 0xa0},
		"huge count":      {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"huge value":      {0x81, 0xa2, 0x03, 0x01, 0x07, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"repeated field":  {0x81, 0xa2, 0x03, 0x01, 0x03, 0x01},
		"long form":       {0x81, 0xa1, 0x03, 0x18, 0x01},
		"bytes after it":  {0x80, 0x00},
		"tag":             {0x81, 0xa2, 0x03, 0x01, 0x14, 0xc1, 0x01},
		"deep":            append([]byte{0x81, 0xa2, 0x03, 0x01, 0x14}, bytes.Repeat([]byte{0x81}, 100)...),
		"indefinite":      {0x9f, 0xff},
		"too many":        append([]byte{0x99, 0x20, 0x01}, bytes.Repeat([]byte{0xa0}, MaxEntries+1)...),
		"long and many":   EncodeCBOR([]m{{1: []byte("k"), 3: 1, 7: make([]byte, EntriesFrameSize), 8: 3}, {1: []byte("k"), 3: 1, 8: 3}}),
		"high sequence":   EncodeCBOR([]m{{1: []byte("k"), 3: 1, 8: 3, 9: kv.MaxSeq + 1}}),
		"endless content": {0x81, 0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if got, err := DecodeEntries(in, 0, 0); !errors.Is(err, ErrPeerMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, first := range []uint64{0, kv.MaxSeq, kv.MaxSeq + 1, 1<<64 - 1} {
		if _, err := DecodeEntries([]byte{0x82, 0xa0, 0xa0}, 7, first); !errors.Is(err, ErrPeerMalformed) {
			t.Errorf("two sequences from %d on are accepted", first)
		}
	}
	if got, err := DecodeEntries([]byte{0x81, 0xa0}, 7, kv.MaxSeq); err != nil || got[0].Seq != kv.MaxSeq {
		t.Errorf("the greatest sequence is refused: %v", err)
	}
}

func TestBadVectorsAreRefused(t *testing.T) {
	high := []VectorItem{{Instance: 7, Seq: kv.MaxSeq + 1}}
	long := make([]VectorItem, MaxVectorItems+1)
	for name, p := range map[string]PeerPull{
		"sequence":     {Vector: high},
		"span":         {Spans: []VectorSpan{{Instance: 7, Low: 1, High: kv.MaxSeq + 1}}},
		"many items":   {Vector: long},
		"many spans":   {Spans: make([]VectorSpan, MaxVectorSpans+1)},
		"other arrays": {Origins: make([]uint64, MaxVectorItems+1)},
	} {
		if _, err := DecodePull(EncodeCBOR(&p)); !errors.Is(err, ErrPeerMalformed) {
			t.Errorf("pull, %s: %v", name, err)
		}
	}
	for _, v := range [][]VectorItem{high, long} {
		if _, err := DecodeDone(EncodeCBOR(&PeerDone{Vector: v})); !errors.Is(err, ErrPeerMalformed) {
			t.Errorf("done with %d items: %v", len(v), err)
		}
	}
	full := PeerPull{Vector: long[1:], Spans: make([]VectorSpan, MaxVectorSpans), Origins: []uint64{1}}
	if got, err := DecodePull(EncodeCBOR(&full)); err != nil || len(got.Vector) != MaxVectorItems {
		t.Errorf("a pull within its bounds: %v", err)
	}
}

func TestRefusalsNameWhatDiffers(t *testing.T) {
	own := PeerHello{NodeID: "a", Prefix: "p", Params: PeerParams{EpochMillis: 1000}}
	for code, other := range map[string]PeerHello{
		PeerCodePrefix: {NodeID: "b", Prefix: "q", Params: own.Params},
		PeerCodeParams: {NodeID: "b", Prefix: "p", Params: PeerParams{EpochMillis: 2000}},
		PeerCodeSecret: {NodeID: "b", Prefix: "p", Params: own.Params, Secret: true},
	} {
		if e := own.Refuse(&other); e == nil || e.Code != code || !strings.Contains(e.Message, "b") {
			t.Errorf("%s: %v", code, e)
		}
	}
	if e := own.Refuse(&own); e != nil {
		t.Errorf("equal ones: %v", e)
	}
}

func FuzzDecodeEntries(f *testing.F) {
	seeds, err := filepath.Glob("testdata/peer/*.hex")
	if err != nil || len(seeds) < 6 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	for _, path := range seeds {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		frame, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame[FrameHeaderLen:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		DecodeHello(b)
		decodePeerError(b)
		changes, err := DecodeEntries(b, 0, 0)
		if err != nil {
			return
		}
		if cbor.Wellformed(b) != nil {
			t.Fatal("accepted what is not CBOR")
		}
		again := AppendEntriesHead(nil, len(changes))
		for i := range changes {
			again = AppendChange(again, &changes[i].Change, false)
		}
		back, err := DecodeEntries(again, 0, 0)
		if err != nil || !reflect.DeepEqual(normal(back), normal(changes)) {
			t.Fatalf("does not survive: %v", err)
		}
	})
}

// normal makes empty and missing slices the same.
func normal(changes []DecodedChange) []DecodedChange {
	out := make([]DecodedChange, len(changes))
	for i, c := range changes {
		c.Entry = c.Entry.Clone()
		out[i] = c
	}
	return out
}
