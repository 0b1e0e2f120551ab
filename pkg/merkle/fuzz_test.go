package merkle

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"merklekv/pkg/kv"
)

// script makes updates of bytes: what is first a name's lengths, then the
// digits of base 3 that its bytes are taken from.
//
//	u8 remove | 2*facet length (0..7) | u8 key length (255: the greatest) | u8 digits
func script(data []byte) (u []Update) {
	alphabet := []byte{0x00, 0xFF, 'a'}
	for ; len(data) >= 3; data = data[3:] {
		length := int(data[1])
		if length == 255 {
			length = kv.MaxKeyLen
		}
		name, digits := make([]byte, length+int(data[0]>>1&7)), int(data[2])
		for i := range name {
			name[i] = alphabet[digits%3]
			if digits /= 3; digits == 0 {
				digits = int(data[2])
			}
		}
		key, facet := name[:length], name[length:]
		if len(name) == 0 {
			facet = []byte("t")
		}
		u = append(u, Update{Key: key, Facet: facet, Tag: tagOf(key, facet, int(data[0]>>4)), Remove: data[0]&1 != 0})
	}
	return u
}

// FuzzTree makes two batches out of the input and compares everything with the
// model.
func FuzzTree(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 1, 0, 255, 1, 0, 255, 2}, []byte{1, 255, 1, 3, 0, 1}, []byte{0xFF})
	f.Fuzz(func(t *testing.T, one, two, bound []byte) {
		if len(one)+len(two) > 900 {
			t.Skip("the model is slow")
		}
		a, b := ordered(script(one)), ordered(script(two))
		ma := model(nil).apply(a)
		mb := ma.apply(b)
		ta := Tree{}.Apply(a)
		tb := ta.Apply(b)
		check(t, ta, ma)
		check(t, tb, mb)
		check(t, tb.Range(bound, nil), mb.filter(func(k []byte) bool { return bytes.Compare(k, bound) >= 0 }))
		check(t, tb.Prefix(bound), mb.filter(func(k []byte) bool { return bytes.HasPrefix(k, bound) }))
		if got, want := collectDiff(ta, tb), ma.diff(mb); !slices.Equal(got, want) {
			t.Fatalf("differences %+v, want %+v", got, want)
		}
		var joined model
		for _, p := range tb.Split(7) {
			joined = append(joined, collect(p.Tree)...)
		}
		check(t, tb, joined)
	})
}

func TestFuzzCorpusIsThere(t *testing.T) {
	if files, err := os.ReadDir("testdata/fuzz/FuzzTree"); err != nil || len(files) < 4 {
		t.Errorf("%d files of the corpus: %v", len(files), err)
	}
}
