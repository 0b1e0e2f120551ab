package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The peer link is what two nodes speak on the client port after the request
// line PEER and the reply OK. Everything after that is frames:
//
//	+----------------+--------+---------------------+
//	| length  u32 BE | type u8| payload (CBOR)      |
//	+----------------+--------+---------------------+
//	length counts the payload only
//
//	dialler                      listener
//	hello  ------------------->           who I am, which cluster, a nonce
//	       <-------------------  hello    or error, naming what differs
//	auth   ------------------->           with a cluster secret only
//	       <-------------------  auth     or error
//	relay  ------------------->           optional: heads of other nodes
//	head   ------------------->
//	       <-------------------  relay    optional
//	       <-------------------  head
//	pull   ------------------->           optional: my vector
//	       <-------------------  entries  any number of them
//	       <-------------------  done     or error, as "busy"
//
// Either side may close after any complete exchange.

// PeerVersion is the version of the peer link. Nodes of different versions
// refuse each other by name.
const PeerVersion = 1

// FrameType says what a frame's payload is.
type FrameType uint8

const (
	FrameHello   FrameType = 1
	FrameAuth    FrameType = 2
	FrameHead    FrameType = 3
	FramePull    FrameType = 4
	FrameEntries FrameType = 5
	FrameDone    FrameType = 6
	FrameError   FrameType = 7
	FrameRelay   FrameType = 8
	// Types 16 to 63 are kept for repair sessions: see peer_sync.go.
)

// String returns the type's name as messages show it.
func (t FrameType) String() string {
	switch t {
	case FrameHello:
		return "hello"
	case FrameAuth:
		return "auth"
	case FrameHead:
		return "head"
	case FramePull:
		return "pull"
	case FrameEntries:
		return "entries"
	case FrameDone:
		return "done"
	case FrameError:
		return "error"
	case FrameRelay:
		return "relay"
	}
	if f := t.sync(); f.limit > 0 {
		return f.name
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Sizes of frames, in bytes.
const (
	FrameHeaderLen = 5
	// EntriesFrameSize is what an entries frame holds at most, unless it has only
	// one entry. MaxEntries bounds their number.
	EntriesFrameSize = 256 << 10
	// MaxEntryLen bounds one encoded entry: the greatest value, key and facet,
	// and room for the rest.
	MaxEntryLen = (16 << 20) + 1024
)

// limit returns the greatest payload of a type, 0 for a type that is unknown.
func (t FrameType) limit() int {
	switch t {
	case FrameHello:
		return 4 << 10
	case FrameAuth:
		return 128
	case FrameHead, FrameRelay:
		return 256 << 10
	case FramePull, FrameDone:
		return 4 << 20 // so many items and spans take up to 2.2 MiB
	case FrameEntries:
		return MaxEntryLen
	case FrameError:
		return 1 << 10
	}
	return t.sync().limit
}

// Errors of a peer that does not keep to the frames.
var (
	// ErrFrameTooLong is returned for a length above the limit of its type.
	ErrFrameTooLong = errors.New("peer frame too long")
	// ErrFrameType is returned for a type that is unknown or out of turn.
	ErrFrameType = errors.New("unexpected peer frame")
	// ErrPeerMalformed is returned for a payload that is not what its type says.
	ErrPeerMalformed = errors.New("malformed peer frame")
)

// AppendFrameHeader appends the header of a frame with n bytes of payload.
func AppendFrameHeader(dst []byte, t FrameType, n int) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(n)), byte(t))
}

// AppendFrame appends a whole frame to dst.
func AppendFrame(dst []byte, t FrameType, payload []byte) []byte {
	return append(AppendFrameHeader(dst, t, len(payload)), payload...)
}

// ParseFrameHeader returns the type and the payload's length, which is within
// the type's limit when the error is nil.
func ParseFrameHeader(h [FrameHeaderLen]byte) (FrameType, int, error) {
	t, n := FrameType(h[4]), int64(binary.BigEndian.Uint32(h[:4]))
	switch limit := int64(t.limit()); {
	case limit == 0:
		return t, 0, fmt.Errorf("%w: %v", ErrFrameType, t)
	case n > limit:
		return t, 0, fmt.Errorf("%w: %v of %d bytes, at most %d", ErrFrameTooLong, t, n, limit)
	}
	return t, int(n), nil
}

// ReadFrame reads one frame whose type is among want. An error frame is
// returned as its *PeerError. The payload is in buf's memory when it fits there,
// else newly taken, after its length and type were checked.
func ReadFrame(r io.Reader, buf []byte, want ...FrameType) (FrameType, []byte, error) {
	var h [FrameHeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, fmt.Errorf("read frame header: %w", err)
	}
	t, n, err := ParseFrameHeader(h)
	if err != nil {
		return t, nil, err
	}
	if t != FrameError && !contains(want, t) {
		return t, nil, fmt.Errorf("%w: %v, expected %v", ErrFrameType, t, want)
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return t, nil, fmt.Errorf("read %v frame: %w", t, err)
	}
	if t == FrameError {
		return t, nil, decodePeerError(buf)
	}
	return t, buf, nil
}

func contains(types []FrameType, t FrameType) bool {
	for _, w := range types {
		if w == t {
			return true
		}
	}
	return false
}
