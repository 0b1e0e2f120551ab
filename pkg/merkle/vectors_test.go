package merkle

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

const vectorsFile = "testdata/vectors.json"

// vectors are what another implementation must agree with. DESIGN.md explains
// the fields.
type vectors struct {
	HashID  string        `json:"hash_id"`
	Entries []entryVector `json:"entries"`
	Sets    []setVector   `json:"sets"`
}

type entryVector struct {
	Name      string   `json:"name"`
	Key       hexBytes `json:"key"`
	Facet     hexBytes `json:"facet"`
	HLC       hexBytes `json:"hlc"`
	Instance  hexBytes `json:"instance"`
	Flags     uint8    `json:"flags"`
	ExpiresAt int64    `json:"expires_at"`
	Value     hexBytes `json:"value"`
	Tag       hexBytes `json:"tag"`
}

type setVector struct {
	Name  string       `json:"name"`
	Items []itemVector `json:"items"`
	Hash  hexBytes     `json:"hash"`
	Root  hexBytes     `json:"root"`
}

type itemVector struct {
	Key   hexBytes `json:"key"`
	Facet hexBytes `json:"facet"`
	Tag   hexBytes `json:"tag"`
}

// hexBytes are written as hexadecimal digits.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func TestVectors(t *testing.T) {
	if *update {
		text, err := json.MarshalIndent(makeVectors(), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if v.HashID != HashID || len(v.Entries) < 10 || len(v.Sets) < 5 {
		t.Fatalf("vectors of %q with %d entries and %d sets", v.HashID, len(v.Entries), len(v.Sets))
	}
	for _, e := range v.Entries {
		entry := e.entry()
		if tag := TagOf(&entry); !bytes.Equal(tag[:], e.Tag) {
			t.Errorf("%s: tag %x, want %x", e.Name, tag, []byte(e.Tag))
		}
	}
	for _, s := range v.Sets {
		m := s.model()
		tree := Tree{}.Apply(m.updates())
		check(t, tree, m)
		if h, r := tree.Hash(), tree.Root(); !bytes.Equal(h[:], s.Hash) || !bytes.Equal(r[:], s.Root) {
			t.Errorf("%s: hash %x, root %x", s.Name, h, r)
		}
	}
}

func (e *entryVector) entry() kv.Entry {
	number := func(h hexBytes) (n uint64) {
		for _, b := range h {
			n = n<<8 | uint64(b)
		}
		return n
	}
	return kv.Entry{
		Key: e.Key, Facet: e.Facet, Flags: kv.Flags(e.Flags), ExpiresAt: e.ExpiresAt, Value: e.Value,
		Version: kv.Version{HLC: hlc.Timestamp(number(e.HLC)), Instance: number(e.Instance)},
	}
}

func (s *setVector) model() (m model) {
	for _, it := range s.Items {
		m = append(m, Item{it.Key, it.Facet, Tag(it.Tag)})
	}
	return m
}

func makeVectors() vectors {
	v := vectors{HashID: HashID}
	at, instance := hexBytes("\x01\x8b\xcf\xe5\x68\x00\x00\x2a"), hexBytes("\xfe\xdc\xba\x98\x76\x54\x32\x10")
	add := func(name, key, facet string, flags kv.Flags, expires int64, value []byte) {
		e := entryVector{name, hexBytes(key), hexBytes(facet), at, instance, uint8(flags), expires, value, nil}
		entry := e.entry()
		tag := TagOf(&entry)
		e.Tag = tag[:]
		v.Entries = append(v.Entries, e)
	}
	add("a value", "user:1", "", 0, 0, []byte("Ada"))
	add("an empty value", "user:1", "", 0, 0, nil)
	add("a tombstone", "user:1", "", kv.Tombstone, 0, nil)
	add("a value that expires", "user:1", "", kv.HasExpiry, 1_700_000_000_123, []byte("Ada"))
	add("a facet", "user:1", "z", 0, 0, []byte("Ada"))
	add("a reserved entry", "", "m|node", 0, 0, []byte("x"))
	add("ab, c", "ab", "", 0, 0, []byte("c"))
	add("a, bc", "a", "", 0, 0, []byte("bc"))
	add("a value of 1024 bytes", "v", "", 0, 0, bytes.Repeat([]byte("v"), 1024))
	add("a value of 1025 bytes", "v", "", 0, 0, bytes.Repeat([]byte("v"), 1025))
	add("the longest name", string(bytes.Repeat([]byte{0xFF}, kv.MaxKeyLen)), string(make([]byte, kv.MaxFacetLen)), 0, 0, []byte("v"))

	for _, n := range []int{0, 1, 32, 33, 150} {
		v.addSet(fmt.Sprintf("%d keys user:%%08d", n), sequence(n, shapes()["user:%08d"]))
	}
	v.addSet("nested keys, of two with facets", nestedSet())
	return v
}

// nestedSet has keys that are prefixes of each other, 0x00 and 0xFF, the
// reserved key, and more facets of one key than fit in one bucket.
func nestedSet() (u []Update) {
	add := func(key, facet []byte) { u = append(u, Update{Key: key, Facet: facet, Tag: tagOf(key, facet, 1)}) }
	for i := 1; i <= 20; i++ {
		add(bytes.Repeat([]byte("a"), i), nil)
		add(make([]byte, i), nil)
		add(bytes.Repeat([]byte{0xFF}, i), nil)
	}
	for i := range 40 {
		add([]byte("aaa"), fmt.Append(nil, "f", i))
	}
	add(nil, []byte("t"))
	add(nil, []byte("m|node"))
	return u
}

func (v *vectors) addSet(name string, u []Update) {
	u = ordered(u)
	tree := Tree{}.Apply(u)
	s := setVector{Name: name, Items: []itemVector{}}
	for i := range u {
		s.Items = append(s.Items, itemVector{u[i].Key, u[i].Facet, u[i].Tag[:]})
	}
	h, r := tree.Hash(), tree.Root()
	s.Hash, s.Root = h[:], r[:]
	v.Sets = append(v.Sets, s)
}
