package merkle

import (
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func hasherOf(u []Update) *Hasher {
	h := new(Hasher)
	for i := range u {
		h.Add(u[i].Key, u[i].Facet, u[i].Tag)
	}
	return h
}

func TestHasherAgreesWithTheTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := additions(batches(200).Draw(t, "items"))
		h, tree := hasherOf(u), Tree{}.Apply(u)
		if h.Len() != tree.Len() {
			t.Fatalf("%d items, the tree has %d", h.Len(), tree.Len())
		}
		if got, want := h.Root(), tree.Root(); got != want {
			t.Fatalf("root %x, the tree's is %x", got, want)
		}
	})
}

func TestHasherOfManyNames(t *testing.T) {
	for name, key := range map[string]func(i int) []byte{
		"shared prefix": func(i int) []byte { return fmt.Appendf(nil, "user:%08d", i) },
		"spread":        func(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)*0x9E37_79B1) },
		"nested":        func(i int) []byte { return make([]byte, i%512) },
	} {
		t.Run(name, func(t *testing.T) {
			var u []Update
			for i := range 20_000 {
				k := key(i)
				u = append(u, Update{Key: k, Tag: tagOf(k, nil, 1)})
			}
			u = ordered(u)
			h := hasherOf(u)
			// What is held grows with the depth, not with the number of items.
			if held := len(h.done); len(h.tags) > (held+1)*maxFlat*tagLen || held > 9*512 {
				t.Errorf("holds %d bytes of tags, %d subtrees", len(h.tags), held)
			}
			if got, want := h.Root(), (Tree{}.Apply(u)).Root(); got != want {
				t.Errorf("root %x, the tree's is %x", got, want)
			}
		})
	}
}

func TestHasherRefusesUnorderedItems(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("items in disorder were taken")
		}
	}()
	h := hasherOf([]Update{{Key: []byte("b")}})
	h.Add([]byte("b"), nil, Tag{})
}

func BenchmarkHasher(b *testing.B) {
	for b.Loop() {
		var h Hasher
		var key [12]byte
		for i := range uint64(100_000) {
			binary.BigEndian.PutUint64(key[4:], i)
			h.Add(key[:], nil, Tag{byte(i), byte(i >> 8)})
		}
		h.Root()
	}
}
