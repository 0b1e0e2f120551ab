package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"merklekv/pkg/internal/prefix"
)

// maxFlat is the greatest number of items in one bucket, and so of the items
// that are hashed in one piece.
const maxFlat = 32

// bucket is a subtree of 1 to maxFlat items. Its data has no pointers, is never
// changed, and looks like this:
//
//	hash [32] | count u8 | 0x01 | tag * count
//	uvarint 2*|key|+f | uvarint |prefix| | key | [uvarint |facet| | facet]    the first item
//	uvarint 2*|rest|+f | rest | [uvarint |facet| | facet]                     each further item
//
// The prefix is the start of the first key that all keys have; a further key is
// the prefix and its rest. f is 1 if there is a facet, 0 if it is empty. From
// the 0x01 to the last tag the data is the preimage of the hash.
type bucket struct{ data []byte }

// Offsets in a bucket's data.
const (
	atCount    = 32
	atPreimage = atCount + 1
	atTags     = atPreimage + 1
	tagLen     = len(Tag{})
)

func (b *bucket) hash() Hash { return Hash(b.data[:atCount]) }

func (b *bucket) size() int { return int(b.data[atCount]) }

func (b *bucket) tag(i int) Tag { return Tag(b.data[atTags+i*tagLen:]) }

func (b *bucket) first() (key, facet []byte) {
	r := b.reader()
	return r.first, r.facet
}

// seal writes the hash of a bucket's data into it.
func seal(data []byte) *bucket {
	h := sha256.Sum256(data[atPreimage : atTags+int(data[atCount])*tagLen])
	copy(data, h[:])
	return &bucket{data}
}

// newBucket returns the bucket of 1 to maxFlat items in order. It keeps no
// slice of theirs.
func newBucket(items []Update) *bucket {
	first := &items[0]
	prefix := prefix.Shared(first.Key, items[len(items)-1].Key)
	size := atTags + len(items)*tagLen + uvarintLen(prefix) + prefix
	for i := range items {
		size += nameLen(&items[i], prefix, i == 0)
	}
	data := make([]byte, atTags, size)
	data[atCount], data[atPreimage] = byte(len(items)), domainFlat
	for i := range items {
		data = append(data, items[i].Tag[:]...)
	}
	data = binary.AppendUvarint(data, header(first.Key, first.Facet))
	data = binary.AppendUvarint(data, uint64(prefix))
	data = appendFacet(append(data, first.Key...), first.Facet)
	for i := range items[1:] {
		it := &items[i+1]
		rest := it.Key[prefix:]
		data = binary.AppendUvarint(data, header(rest, it.Facet))
		data = appendFacet(append(data, rest...), it.Facet)
	}
	return seal(data)
}

func header(rest, facet []byte) uint64 {
	h := 2 * uint64(len(rest))
	if len(facet) > 0 {
		h++
	}
	return h
}

func appendFacet(data, facet []byte) []byte {
	if len(facet) == 0 {
		return data
	}
	return append(binary.AppendUvarint(data, uint64(len(facet))), facet...)
}

// nameLen returns how many bytes an item's name takes behind the prefix.
func nameLen(it *Update, prefix int, first bool) int {
	rest := len(it.Key) - prefix
	n := rest
	if first {
		n += uvarintLen(2 * len(it.Key))
	} else {
		n += uvarintLen(2 * rest)
	}
	if len(it.Facet) > 0 {
		n += uvarintLen(len(it.Facet)) + len(it.Facet)
	}
	return n
}

func uvarintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// reader steps through the names of a bucket. It starts at the first item; the
// key of the item is prefix and rest.
type reader struct {
	first, prefix []byte
	rest, facet   []byte
	data          []byte // behind the item
}

func (b *bucket) reader() reader {
	r := reader{data: b.data[atTags+b.size()*tagLen:]}
	head := r.uvarint()
	prefix := r.uvarint()
	r.first = r.take(head / 2)
	r.prefix, r.rest = r.first[:prefix], r.first[prefix:]
	r.takeFacet(head)
	return r
}

// next steps to the next item. There must be one.
func (r *reader) next() {
	head := r.uvarint()
	r.rest = r.take(head / 2)
	r.takeFacet(head)
}

func (r *reader) takeFacet(head int) {
	r.facet = nil
	if head&1 != 0 {
		r.facet = r.take(r.uvarint())
	}
}

func (r *reader) take(n int) []byte {
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) uvarint() int {
	if v := r.data[0]; v < 0x80 {
		r.data = r.data[1:]
		return int(v)
	}
	v, n := binary.Uvarint(r.data)
	r.data = r.data[n:]
	return int(v)
}

// load appends the bucket's items to dst. Keys are put together in arena, which
// it returns extended; the items share memory with it and with the bucket.
func (b *bucket) load(dst []Update, arena []byte) ([]Update, []byte) {
	r, n := b.reader(), b.size()
	dst = append(dst, Update{Key: r.first, Facet: r.facet, Tag: b.tag(0)})
	for i := 1; i < n; i++ {
		r.next()
		from := len(arena)
		arena = append(append(arena, r.prefix...), r.rest...)
		dst = append(dst, Update{Key: arena[from:len(arena):len(arena)], Facet: r.facet, Tag: b.tag(i)})
	}
	return dst, arena
}

// find returns the tag of a name.
func (b *bucket) find(key, facet []byte) (Tag, bool) {
	r, n := b.reader(), b.size()
	if !bytes.HasPrefix(key, r.prefix) {
		return Tag{}, false
	}
	rest := key[len(r.prefix):]
	for i := 0; ; {
		if bytes.Equal(r.rest, rest) && bytes.Equal(r.facet, facet) {
			return b.tag(i), true
		}
		if i++; i == n {
			return Tag{}, false
		}
		r.next()
	}
}
