package antientropy

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/address"
	"merklekv/pkg/kv"
)

func memberEntry(nodeID string, instance uint64, address string) kv.Entry {
	return kv.Entry{
		Facet: MemberFacet(nodeID), Value: EncodeMember(instance, address),
		Version: kv.Version{HLC: hlc.At(1_000), Instance: instance},
	}
}

func TestMemberHasItsGoldenForm(t *testing.T) {
	want := []byte("\xa2\x01\x18\x2a\x02\x6bnode-1:7878")
	if got := EncodeMember(42, "node-1:7878"); !bytes.Equal(got, want) {
		t.Errorf("value % x, want % x", got, want)
	}
	if got := string(MemberFacet("node-1")); got != "mnode-1" {
		t.Errorf("facet %q", got)
	}
	if len(MemberFacet(strings.Repeat("n", address.MaxNodeID))) > kv.MaxFacetLen {
		t.Error("the longest node_id does not fit into a facet")
	}
}

func TestMembersAreLiveAndSorted(t *testing.T) {
	left := memberEntry("left", 9, "left:1")
	left.Flags, left.Value = kv.Tombstone, nil
	clients := memberEntry("x", 9, "x:1")
	clients.Key = []byte("k")
	unreadable := memberEntry("c", 3, "c:1")
	unreadable.Value = []byte("\xff")
	later := memberEntry("d", 4, "d:1") // with a field of a later version
	later.Value = append([]byte{0xa3}, append(later.Value[1:], 3, 0)...)
	got := Members([]kv.Entry{
		memberEntry("b", 2, ""), later, unreadable, left, clients, memberEntry("a", 1, "a:1"),
		{Facet: []byte("t")}, memberEntry("", 5, "e:1"), memberEntry("no blanks", 6, "f:1"),
	})
	v := func(instance uint64) kv.Version { return kv.Version{HLC: hlc.At(1_000), Instance: instance} }
	want := []Member{{"a", 1, "a:1", v(1)}, {"b", 2, "", v(2)}, {"c", 0, "", v(3)}, {"d", 4, "d:1", v(4)}}
	if !slices.Equal(got, want) {
		t.Errorf("members %+v, want %+v", got, want)
	}
}

func TestBadMembersAreRefused(t *testing.T) {
	good := memberEntry("n1", 1, "n1:7878")
	for name, change := range map[string]func(e *kv.Entry){
		"tombstone":        func(e *kv.Entry) { e.Flags = kv.Tombstone },
		"client's key":     func(e *kv.Entry) { e.Key = []byte("k") },
		"other facet":      func(e *kv.Entry) { e.Facet = []byte("t") },
		"empty facet":      func(e *kv.Entry) { e.Facet = nil },
		"no node_id":       func(e *kv.Entry) { e.Facet = MemberFacet("") },
		"long node_id":     func(e *kv.Entry) { e.Facet = MemberFacet(strings.Repeat("n", address.MaxNodeID+1)) },
		"node_id in UTF-8": func(e *kv.Entry) { e.Facet = MemberFacet("nö") },
		"empty value":      func(e *kv.Entry) { e.Value = nil },
		"no instance":      func(e *kv.Entry) { e.Value = EncodeMember(0, "n1:7878") },
		"long address":     func(e *kv.Entry) { e.Value = EncodeMember(1, strings.Repeat("a", maxAddress+1)) },
		"long value":       func(e *kv.Entry) { e.Value = append(e.Value, make([]byte, maxMemberValue)...) },
		"bytes behind":     func(e *kv.Entry) { e.Value = append(e.Value, 0) },
	} {
		e := good.Clone()
		change(&e)
		if m, err := DecodeMember(&e); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if m, err := DecodeMember(&good); err != nil || m.Address != "n1:7878" {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzDecodeMember(f *testing.F) {
	f.Add([]byte("mn1"), EncodeMember(1, "n1:7878"))
	f.Add([]byte("mn1"), EncodeMember(1<<63, ""))
	f.Add([]byte("m"), []byte("\xa2\x01\x01\x01\x02"))
	f.Add([]byte("t"), []byte{})
	f.Fuzz(func(t *testing.T, facet, value []byte) {
		e := kv.Entry{Facet: facet, Value: value}
		m, err := DecodeMember(&e)
		if err != nil {
			if !errors.Is(err, ErrMember) || m.Instance != 0 || m.Address != "" {
				t.Fatalf("%+v, %v", m, err)
			}
			return
		}
		if m.NodeID == "" || m.Instance == 0 || !bytes.Equal(MemberFacet(m.NodeID), facet) {
			t.Fatalf("%+v of facet %q", m, facet)
		}
		again := kv.Entry{Facet: facet, Value: EncodeMember(m.Instance, m.Address)}
		if n, err := DecodeMember(&again); err != nil || n != m {
			t.Fatalf("%+v, %v after encoding %+v", n, err, m)
		}
	})
}
