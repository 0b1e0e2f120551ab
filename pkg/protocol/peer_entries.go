package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// Changes travel as a CBOR array of maps with integer keys, in ascending order:
//
//	1 key      bytes, absent when empty (reserved)
//	2 facet    bytes, absent when empty (plain register)
//	3 hlc      uint
//	4 instance uint of the version, absent when it is the origin
//	5 flags    uint, absent when 0
//	6 expires  uint, Unix milliseconds, absent when 0
//	7 value    bytes, absent when empty
//	8 origin   uint, absent when the message implies it
//	9 seq      uint, absent when the message implies it, or when unknown
//
// An empty map is a stub: a change too big for its message. It is written and
// read by hand because there may be 100,000 of them in a second; a test holds
// it against the library.

const (
	majorUint  = 0 << 5
	majorBytes = 2 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5
)

// appendHead appends the head of a CBOR item in its shortest form.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

// MaxEntries bounds the changes of one message or frame: a stub takes one byte
// there and a hundred in memory.
const MaxEntries = 8192

// AppendEntriesHead appends the head of an array of n changes.
func AppendEntriesHead(dst []byte, n int) []byte { return appendHead(dst, majorArray, uint64(n)) }

// AppendStub appends a change of which only the place is told.
func AppendStub(dst []byte) []byte { return append(dst, majorMap) }

// AppendChange appends one change. With implied, its origin and sequence follow
// from the message and are left out.
func AppendChange(dst []byte, c *kv.Change, implied bool) []byte {
	at := len(dst)
	dst = append(dst, majorMap) // its count, below 24, is filled in at the end
	e, fields := &c.Entry, byte(1)
	field := func(key byte, major byte, n uint64) {
		dst = appendHead(append(dst, key), major, n)
		fields++
	}
	if len(e.Key) > 0 {
		field(1, majorBytes, uint64(len(e.Key)))
		dst = append(dst, e.Key...)
	}
	if len(e.Facet) > 0 {
		field(2, majorBytes, uint64(len(e.Facet)))
		dst = append(dst, e.Facet...)
	}
	dst = appendHead(append(dst, 3), majorUint, uint64(e.Version.HLC))
	if e.Version.Instance != c.Origin {
		field(4, majorUint, e.Version.Instance)
	}
	if e.Flags != 0 {
		field(5, majorUint, uint64(e.Flags))
	}
	if e.ExpiresAt != 0 {
		field(6, majorUint, uint64(e.ExpiresAt))
	}
	if len(e.Value) > 0 {
		field(7, majorBytes, uint64(len(e.Value)))
		dst = append(dst, e.Value...)
	}
	if !implied {
		field(8, majorUint, c.Origin)
		if c.Seq != 0 {
			field(9, majorUint, c.Seq)
		}
	}
	dst[at] |= fields
	return dst
}

// ChangeSize returns an upper bound of what AppendChange appends, in bytes.
func ChangeSize(c *kv.Change) int {
	return 72 + len(c.Entry.Key) + len(c.Entry.Facet) + len(c.Entry.Value)
}

// DecodedChange is a change as it was read. Its slices lie in the input.
type DecodedChange struct {
	kv.Change
	Stub bool // only Origin and Seq are set
}

var errTruncated = errors.New("entries end early")

// DecodeEntries reads an array of at most MaxEntries changes, which must fill b;
// one that is longer than EntriesFrameSize holds a single change. With an origin
// other than 0 that and the sequences from first on are implied. Every change
// that is no stub is a valid entry, and no sequence is above kv.MaxSeq. Errors
// wrap ErrPeerMalformed.
func DecodeEntries(b []byte, origin, first uint64) ([]DecodedChange, error) {
	r := cborReader{b: b}
	n := r.head(majorArray)
	switch {
	case n > uint64(len(b)): // a change takes a byte at least
		r.fail(errTruncated)
	case n > MaxEntries:
		r.fail(fmt.Errorf("%d entries, at most %d", n, MaxEntries))
	case n > 1 && len(b) > EntriesFrameSize:
		r.fail(fmt.Errorf("%d entries in %d bytes", n, len(b)))
	case origin != 0 && (first == 0 || first > kv.MaxSeq || n > kv.MaxSeq-first+1):
		r.fail(errors.New("impossible sequence"))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeerMalformed, r.err)
	}
	changes := make([]DecodedChange, 0, n)
	for i := uint64(0); i < n && r.err == nil; i++ {
		c := DecodedChange{Change: kv.Change{Origin: origin}}
		if origin != 0 {
			c.Seq = first + i
		}
		r.change(&c, origin != 0)
		changes = append(changes, c)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail(errors.New("bytes after the last entry"))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeerMalformed, r.err)
	}
	return changes, nil
}

// cborReader reads the subset of CBOR that changes use. After the first error
// it reads nothing but zeros.
type cborReader struct {
	b   []byte
	err error
}

func (r *cborReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// head reads the head of an item that must be of a major type.
func (r *cborReader) head(major byte) uint64 {
	got, n := r.any()
	if got != major {
		r.fail(fmt.Errorf("item of major type %d where %d belongs", got>>5, major>>5))
		return 0
	}
	return n
}

// any reads the head of an item and refuses any but the shortest form.
func (r *cborReader) any() (major byte, n uint64) {
	if len(r.b) == 0 {
		r.fail(errTruncated)
		return 0, 0
	}
	major, info := r.b[0]&0xe0, r.b[0]&0x1f
	r.b = r.b[1:]
	if info < 24 {
		return major, uint64(info)
	}
	size := 1 << (info - 24)
	if info > 27 || len(r.b) < size {
		r.fail(errTruncated)
		return 0, 0
	}
	for _, x := range r.b[:size] {
		n = n<<8 | uint64(x)
	}
	r.b = r.b[size:]
	if major != 7<<5 && (n < 24 || (size > 1 && n>>(4*size) == 0)) {
		r.fail(errors.New("number not in its shortest form"))
	}
	return major, n
}

func (r *cborReader) bytes() []byte {
	n := r.head(majorBytes)
	if n > uint64(len(r.b)) {
		r.fail(errTruncated)
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// skip passes over one item of any kind, nested at most depth levels.
func (r *cborReader) skip(depth int) {
	major, n := r.any()
	items := uint64(0)
	switch major {
	case majorBytes, 3 << 5:
		if n > uint64(len(r.b)) {
			r.fail(errTruncated)
			return
		}
		r.b = r.b[n:]
	case majorArray:
		items = n
	case majorMap:
		items = 2 * min(n, math.MaxUint32)
	case 6 << 5:
		r.fail(errors.New("tagged item"))
	}
	if items > 0 && depth == 0 {
		r.fail(errors.New("nested too deep"))
	}
	for ; items > 0 && r.err == nil; items-- {
		r.skip(depth - 1)
	}
}

// change reads one map into c, whose origin and sequence are set if implied.
func (r *cborReader) change(c *DecodedChange, implied bool) {
	n := r.head(majorMap)
	if n == 0 {
		if c.Stub = true; !implied {
			r.fail(errors.New("stub without a place"))
		}
		return
	}
	last, sawInstance := uint64(0), false
	for i := uint64(0); i < n && r.err == nil; i++ {
		key := r.head(majorUint)
		if key <= last {
			r.fail(errors.New("fields out of order"))
			return
		}
		last = key
		if key == 4 {
			sawInstance = true
		}
		r.field(c, key, implied)
	}
	if !sawInstance {
		c.Entry.Version.Instance = c.Origin
	}
	if r.err != nil {
		return
	}
	if err := c.Entry.Validate(); err != nil {
		r.fail(err)
	}
}

// field reads the value of one field.
func (r *cborReader) field(c *DecodedChange, key uint64, implied bool) {
	e := &c.Entry
	switch key {
	case 1:
		e.Key = r.bytes()
	case 2:
		e.Facet = r.bytes()
	case 3:
		e.Version.HLC = hlc.Timestamp(r.head(majorUint))
	case 4:
		e.Version.Instance = r.head(majorUint)
	case 5:
		e.Flags = kv.Flags(r.upTo(math.MaxUint8))
	case 6:
		e.ExpiresAt = int64(r.upTo(math.MaxInt64))
	case 7:
		e.Value = r.bytes()
	case 8, 9:
		if implied {
			r.fail(errors.New("place given twice"))
		}
		if key == 8 {
			c.Origin = r.head(majorUint)
		} else {
			c.Seq = r.upTo(kv.MaxSeq)
		}
	default:
		r.skip(4)
	}
}

// upTo reads a number that must not exceed most.
func (r *cborReader) upTo(most uint64) uint64 {
	n := r.head(majorUint)
	if n > most {
		r.fail(fmt.Errorf("number %d above %d", n, most))
	}
	return n
}
