package merkle

import (
	"crypto/sha256"
	"encoding/binary"

	"merklekv/pkg/kv"
)

// inlineValue is the greatest length in bytes of a value that goes into the
// tag's preimage itself; of a longer one its SHA-256 goes in.
const inlineValue = 1024

// The first byte of a preimage says what is hashed, so that no preimage of one
// kind can be one of another kind.
const (
	domainTag   = 0x00
	domainFlat  = 0x01
	domainInner = 0x02
	domainEmpty = 0x03
	domainRoot  = 0x04
)

// TagOf returns the tag of an entry: the first 16 bytes of the SHA-256 of
//
//	0x00 | u64 hlc | u64 instance | u8 flags | uvarint |key| | key |
//	uvarint |facet| | facet | [u64 expiresAt] | uvarint |value| | value'
//
// Integers are big-endian, uvarint is that of encoding/binary. expiresAt is
// there with [kv.HasExpiry] only. value' is the value, or its SHA-256 when it
// has more than 1024 bytes.
func TagOf(e *kv.Entry) Tag {
	if len(e.Key)+len(e.Facet)+len(e.Value) <= smallEntry {
		return tagIn(make([]byte, 0, smallEntry+64), e)
	}
	return tagIn(make([]byte, 0, kv.MaxKeyLen+kv.MaxFacetLen+inlineValue+64), e)
}

// smallEntry is the length in bytes of key, facet and value up to which the
// preimage is made in a buffer that costs less to clear.
const smallEntry = 192

// tagIn is TagOf with a buffer for the preimage.
func tagIn(p []byte, e *kv.Entry) Tag {
	p = append(p, domainTag)
	p = binary.BigEndian.AppendUint64(p, uint64(e.Version.HLC))
	p = binary.BigEndian.AppendUint64(p, e.Version.Instance)
	p = append(p, byte(e.Flags))
	p = append(binary.AppendUvarint(p, uint64(len(e.Key))), e.Key...)
	p = append(binary.AppendUvarint(p, uint64(len(e.Facet))), e.Facet...)
	if e.Flags&kv.HasExpiry != 0 {
		p = binary.BigEndian.AppendUint64(p, uint64(e.ExpiresAt))
	}
	p = binary.AppendUvarint(p, uint64(len(e.Value)))
	if len(e.Value) > inlineValue {
		digest := sha256.Sum256(e.Value)
		p = append(p, digest[:]...)
	} else {
		p = append(p, e.Value...)
	}
	digest := sha256.Sum256(p)
	return Tag(digest[:])
}
