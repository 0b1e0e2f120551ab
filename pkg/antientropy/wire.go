package antientropy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// Payloads of a session's frames. Numbers are unsigned varints unless a length
// is given, which is in bytes and big-endian; SESSION.md draws an example.
//
//	sync      mode:1 epoch count root:32
//	ranges    { gap, 2*children, fp, { name, fp }*   | gap, 2*keys+1, digest* }*
//	wants     { gap, 2*n, { gap }*n                  | gap, 1, bitmap }*
//	offers    kind:1 [ low, high ] { name, facets, { len, facet, hlc:8, instance:8, check:4 }* }*
//	requests  { name }*
//	push      entries, as everywhere on the peer link
//	give      entries
//	turn      nothing, or the verdict: flags:1 differing applied moot deferred excused [ root:32 ]
//
// A name is written against the one before it in the same item (separators) or
// frame (keys): one byte holds how many bytes of that one go and how many come,
// in four bits each, where 15 means that a varint of the rest follows; then come
// the bytes. A gap counts the elements that are passed over.

// Open is what an initiator says first.
type Open struct {
	Mode  Mode
	Epoch int64       // 0: all that is held
	Count uint64      // entries in the initiator's tree
	Root  merkle.Hash // the tree's root
}

func (o *Open) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, byte(o.Mode)), uint64(o.Epoch))
	return append(binary.AppendUvarint(dst, o.Count), o.Root[:]...)
}

// DecodeOpen reads the payload of a FrameSync. Errors wrap
// protocol.ErrPeerMalformed.
func DecodeOpen(payload []byte) (Open, error) {
	r := wireReader{b: payload}
	o := Open{Mode: Mode(r.byte()), Epoch: int64(r.upTo(1 << 62)), Count: r.upTo(1 << 62)}
	copy(o.Root[:], r.bytes(len(o.Root)))
	if o.Mode > Full {
		r.fail("unknown mode")
	}
	return o, r.end("sync")
}

// verdict is what a side found, told with a turn in which it has nothing else
// to say.
type verdict struct {
	agreed  bool // the roots were equal in the open frame
	partial bool // bounds left something for the next session
	tally   sessionTally
	root    *merkle.Hash // nil: not kept any more
}

// sessionTally counts what one side found.
type sessionTally struct {
	differing uint64 // keys of its own lists that differ
	applied   uint64 // entries that won here
	moot      uint64 // keys whose versions held now are equal
	deferred  uint64 // entries too far in the future
	excused   uint64 // what makes roots at the epoch differ although all is merged
}

const (
	flagAgreed = 1 << iota
	flagPartial
	flagRoot
)

func (v *verdict) append(dst []byte) []byte {
	if v.agreed {
		return append(dst, flagAgreed)
	}
	flags := byte(0)
	if v.partial {
		flags |= flagPartial
	}
	if v.root != nil {
		flags |= flagRoot
	}
	dst = append(dst, flags)
	t := &v.tally
	for _, n := range [...]uint64{t.differing, t.applied, t.moot, t.deferred, t.excused} {
		dst = binary.AppendUvarint(dst, n)
	}
	if v.root != nil {
		dst = append(dst, v.root[:]...)
	}
	return dst
}

func decodeVerdict(payload []byte) (v verdict, err error) {
	r := wireReader{b: payload}
	flags := r.byte()
	v.agreed, v.partial = flags == flagAgreed, flags&flagPartial != 0
	if flags&^(flagPartial|flagRoot) != 0 && !v.agreed {
		r.fail("unknown flags")
	}
	if v.agreed {
		return v, r.end("verdict")
	}
	t := &v.tally
	for _, n := range [...]*uint64{&t.differing, &t.applied, &t.moot, &t.deferred, &t.excused} {
		*n = r.upTo(1 << 48)
	}
	if flags&flagRoot != 0 {
		v.root = new(merkle.Hash)
		copy(v.root[:], r.bytes(len(v.root)))
	}
	return v, r.end("verdict")
}

// appendName appends name, written against prev.
func appendName(dst, prev, name []byte) []byte {
	shared := 0
	for shared < len(prev) && shared < len(name) && prev[shared] == name[shared] {
		shared++
	}
	drop, add := len(prev)-shared, len(name)-shared
	dst = append(dst, byte(min(drop, 15)<<4|min(add, 15)))
	if drop >= 15 {
		dst = binary.AppendUvarint(dst, uint64(drop-15))
	}
	if add >= 15 {
		dst = binary.AppendUvarint(dst, uint64(add-15))
	}
	return append(dst, name[shared:]...)
}

// shown is what one side shows of an entry.
type shown struct {
	facet   []byte
	version kv.Version
	check   uint32
}

// appendOffer appends a key, written against prev, with what is shown of it.
func appendOffer(dst, prev, key []byte, facets []shown) []byte {
	dst = binary.AppendUvarint(appendName(dst, prev, key), uint64(len(facets)))
	for i := range facets {
		f := &facets[i]
		dst = append(binary.AppendUvarint(dst, uint64(len(f.facet))), f.facet...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(f.version.HLC))
		dst = binary.BigEndian.AppendUint64(dst, f.version.Instance)
		dst = binary.BigEndian.AppendUint32(dst, f.check)
	}
	return dst
}

// minShown is what a facet takes at least in an offer, in bytes.
const minShown = 1 + 8 + 8 + 4

// wireReader reads a payload. After the first error it reads nothing but zeros.
type wireReader struct {
	b   []byte
	err error
}

func (r *wireReader) fail(what string) {
	if r.err == nil {
		r.err = errors.New(what)
	}
	r.b = nil
}

// more reports whether something is left to read.
func (r *wireReader) more() bool { return len(r.b) > 0 }

// end returns the error, if there was one or something is left.
func (r *wireReader) end(frame string) error {
	if r.more() {
		r.fail("bytes after the end")
	}
	if r.err != nil {
		return fmt.Errorf("%w: %s frame: %w", protocol.ErrPeerMalformed, frame, r.err)
	}
	return nil
}

func (r *wireReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// bytes returns the next n bytes, nil if there are less.
func (r *wireReader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail("it ends early")
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// upTo reads a varint that must not exceed most.
func (r *wireReader) upTo(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.fail(fmt.Sprintf("no number up to %d where one belongs", most))
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads a number of elements that take at least size bytes each.
func (r *wireReader) count(most, size int) int {
	n := int(r.upTo(uint64(most)))
	if n*size > len(r.b) {
		r.fail("more elements than bytes")
		return 0
	}
	return n
}

// name reads a name of at most kv.MaxKeyLen bytes into the memory of prev, which
// it is written against.
func (r *wireReader) name(prev []byte) []byte {
	head := r.byte()
	drop, add := int(head>>4), int(head&15)
	if drop == 15 {
		drop += int(r.upTo(kv.MaxKeyLen))
	}
	if add == 15 {
		add += int(r.upTo(kv.MaxKeyLen))
	}
	if drop > len(prev) || len(prev)-drop+add > kv.MaxKeyLen {
		r.fail("impossible name")
		return prev[:0]
	}
	return append(prev[:len(prev)-drop], r.bytes(add)...)
}

// offer reads what is shown of a key into facets. The facets lie in the payload.
func (r *wireReader) offer(facets []shown, least int) []shown {
	n := r.count(protocol.SyncFrameSize, minShown)
	if n < least {
		r.fail("offer of nothing")
	}
	for range n {
		f := shown{facet: r.bytes(int(r.upTo(kv.MaxFacetLen)))}
		if b := r.bytes(minShown - 1); b != nil {
			f.version = kv.Version{HLC: hlc.Timestamp(binary.BigEndian.Uint64(b)), Instance: binary.BigEndian.Uint64(b[8:])}
			f.check = binary.BigEndian.Uint32(b[16:])
		}
		facets = append(facets, f)
	}
	return facets
}
