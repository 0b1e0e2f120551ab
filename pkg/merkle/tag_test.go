package merkle

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"merklekv/pkg/kv"
)

func TestTagsOfAmbiguousEntriesDiffer(t *testing.T) {
	version := kv.Version{HLC: 7, Instance: 9}
	long := bytes.Repeat([]byte("x"), inlineValue+1)
	digest := sha256.Sum256(long)
	entries := []kv.Entry{
		{Key: []byte("ab"), Value: []byte("c")},
		{Key: []byte("a"), Value: []byte("bc")},
		{Key: []byte("ab"), Facet: []byte("c")},
		{Key: []byte("a"), Facet: []byte("bc")},
		{Key: []byte("a"), Facet: []byte("b"), Value: []byte("c")},
		{Key: []byte("abc")},
		{Key: []byte("abc"), Flags: kv.Tombstone},
		{Key: []byte("abc"), Flags: kv.HasExpiry},
		{Key: []byte("abc"), Flags: kv.HasExpiry, ExpiresAt: 1},
		{Key: []byte("abc"), Value: make([]byte, 8)},
		{Key: []byte("v"), Value: long},
		{Key: []byte("v"), Value: digest[:]},
		{Key: []byte("v"), Value: long[:inlineValue]},
	}
	seen := map[Tag]int{}
	for i := range entries {
		entries[i].Version = version
		tag := TagOf(&entries[i])
		if j, ok := seen[tag]; ok {
			t.Errorf("entries %d and %d have one tag", i, j)
		}
		seen[tag] = i
	}
}

func TestEveryPartOfAVersionIsInTheTag(t *testing.T) {
	e := kv.Entry{Key: []byte("k"), Value: []byte("v"), Version: kv.Version{HLC: 1, Instance: 2}}
	later, other := e, e
	later.Version.HLC++
	other.Version.Instance++
	if a, b, c := TagOf(&e), TagOf(&later), TagOf(&other); a == b || a == c || b == c {
		t.Error("two versions of one value have one tag")
	}
}

// Hash preimages of one kind are none of another kind, even where the bytes
// behind the first are equal.
func TestHashesOfDifferentKindsDiffer(t *testing.T) {
	u := ordered(sequence(maxFlat+1, shapes()["user:%08d"]))
	tree := Tree{}.Apply(u)
	root := tree.root.(*inner)
	left, right := root.left.hash(), root.right.hash()
	children := append(left[:], right[:]...)
	var forged []Update
	for i := range 4 { // as tags, the children of the inner node
		forged = append(forged, Update{Key: []byte{byte(i)}, Tag: Tag(children[i*tagLen:])})
	}
	if (Tree{}).Apply(forged).Hash() == tree.Hash() {
		t.Error("a bucket hashes like an inner node")
	}
	preimage := append([]byte{domainInner}, children...)
	if sha256.Sum256(preimage) != tree.Hash() {
		t.Fatal("this is not the preimage of the inner node")
	}
	e := kv.Entry{Key: []byte("k"), Version: kv.Version{HLC: 1, Instance: 2}, Value: preimage}
	h, tag := tree.Hash(), TagOf(&e)
	if bytes.Equal(tag[:], h[:tagLen]) {
		t.Error("an entry's tag is the start of an inner node's hash")
	}
}

// A tag is over a bounded number of bytes beside the digest of the value, and the
// tree keeps tags only: no rehash reads a value.
func TestTagTakesTheDigestOfALongValue(t *testing.T) {
	// 22 bytes and the value, or 22 or 23 and a digest.
	for _, c := range []struct{ size, preimage int }{{1023, 1045}, {1024, 1046}, {1025, 54}, {1 << 20, 55}} {
		e := kv.Entry{Version: kv.Version{HLC: 1, Instance: 2}, Value: make([]byte, c.size)}
		p := make([]byte, 0, 2048)
		tag := tagIn(p, &e)
		digest := sha256.Sum256(p[:c.preimage])
		if !bytes.Equal(tag[:], digest[:tagLen]) || tag != TagOf(&e) {
			t.Errorf("the tag of %d bytes is not that of a preimage of %d bytes", c.size, c.preimage)
		}
	}
}

func TestTagAllocatesNothing(t *testing.T) {
	for _, size := range []int{0, 16, 1024, 1025} {
		e := kv.Entry{Key: make([]byte, kv.MaxKeyLen), Facet: make([]byte, kv.MaxFacetLen), Value: make([]byte, size)}
		if n := testing.AllocsPerRun(100, func() { TagOf(&e) }); n != 0 {
			t.Errorf("%v allocations for a value of %d bytes", n, size)
		}
	}
}
