package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// What Pebble holds, by the first byte of a key; numbers are big endian:
//
//	e key' facet        -> hlc u64, instance u64, flags u8, [expiresAt u64], value
//	v origin u64        -> sequence u64, hlc u64: what was received of an origin
//	w group u64         -> the entries of a group, in the order in which they came, not
//	                       yet under their own keys: each a line of u16 length of the
//	                       key, u32 length of the value, key, value, as above
//	g                   -> u64: number of the last group
//
// key' is the key with each 0x00 as 0x00 0xff, and ends with 0x00 0x01, so that
// the order of Pebble's keys is that of names: by key, then by facet, what is a
// prefix first.
const (
	kindEntry  = 'e'
	kindScript = 'w'
	kindVector = 'v'
	kindGroup  = 'g'
)

const (
	escaped    = 0xff // after 0x00: a 0x00 of the key
	terminated = 0x01 // after 0x00: the key has ended

	versionLen = 16
	fixedLen   = versionLen + 1 // of an entry's value: version and flags
	expiryLen  = 8
	vectorLen  = 16 // of a vector item's value
	originLen  = 9  // of a vector item's key
)

var be = binary.BigEndian

// errFormat is what a record is that this format cannot have.
var errFormat = errors.New("impossible record")

// nameLen returns the length of an entry's key in Pebble.
func nameLen(e *kv.Entry) int {
	return 1 + len(e.Key) + bytes.Count(e.Key, []byte{0}) + 2 + len(e.Facet)
}

// putName writes the key of an entry, of nameLen bytes.
func putName(dst []byte, e *kv.Entry) {
	dst[0] = kindEntry
	n := 1
	if bytes.IndexByte(e.Key, 0) < 0 {
		n += copy(dst[n:], e.Key)
	} else {
		for _, c := range e.Key {
			dst[n] = c
			n++
			if c == 0 {
				dst[n] = escaped
				n++
			}
		}
	}
	dst[n], dst[n+1] = 0, terminated
	copy(dst[n+2:], e.Facet)
}

// contentLen returns the length of an entry's value in Pebble.
func contentLen(e *kv.Entry) int {
	n := fixedLen + len(e.Value)
	if e.Flags&kv.HasExpiry != 0 {
		n += expiryLen
	}
	return n
}

// putContent writes the value of an entry, of contentLen bytes.
func putContent(dst []byte, e *kv.Entry) {
	be.PutUint64(dst, uint64(e.Version.HLC))
	be.PutUint64(dst[8:], e.Version.Instance)
	dst[versionLen] = byte(e.Flags)
	n := fixedLen
	if e.Flags&kv.HasExpiry != 0 {
		be.PutUint64(dst[n:], uint64(e.ExpiresAt))
		n += expiryLen
	}
	copy(dst[n:], e.Value)
}

// decodeEntry reads an entry, whose slices lie in name, value and scratch, which
// it returns grown. An entry that is not valid is an error that wraps
// ErrDamaged.
func decodeEntry(e *kv.Entry, name, value, scratch []byte) ([]byte, error) {
	key, facet, scratch, ok := splitName(name, scratch)
	if !ok || len(value) < fixedLen {
		return scratch, fmt.Errorf("%w: %w: key %q", ErrDamaged, errFormat, name)
	}
	*e = kv.Entry{
		Key: key, Facet: facet, Flags: kv.Flags(value[versionLen]),
		Version: kv.Version{HLC: hlc.Timestamp(be.Uint64(value)), Instance: be.Uint64(value[8:])},
	}
	value = value[fixedLen:]
	if e.Flags&kv.HasExpiry != 0 {
		if len(value) < expiryLen {
			return scratch, fmt.Errorf("%w: %w: key %q has no expiry", ErrDamaged, errFormat, name)
		}
		e.ExpiresAt, value = int64(be.Uint64(value)), value[expiryLen:]
	}
	e.Value = value
	if err := e.Validate(); err != nil {
		return scratch, fmt.Errorf("%w: key %q: %w", ErrDamaged, name, err)
	}
	return scratch, nil
}

// splitName is the inverse of putName.
func splitName(name, scratch []byte) (key, facet, grown []byte, ok bool) {
	if len(name) < 3 || name[0] != kindEntry {
		return nil, nil, scratch, false
	}
	rest := name[1:]
	i := bytes.IndexByte(rest, 0)
	if i >= 0 && i+1 < len(rest) && rest[i+1] == terminated {
		return rest[:i], rest[i+2:], scratch, true // the usual case: nothing is escaped
	}
	scratch = scratch[:0]
	for i >= 0 && i+1 < len(rest) {
		scratch = append(scratch, rest[:i]...)
		mark := rest[i+1]
		rest = rest[i+2:]
		switch mark {
		case terminated:
			return scratch, rest, scratch, true
		case escaped:
			scratch = append(scratch, 0)
		default:
			return nil, nil, scratch, false
		}
		i = bytes.IndexByte(rest, 0)
	}
	return nil, nil, scratch, false
}

const (
	scriptKeyLen = 9
	lineHead     = 6 // bytes of a line before its key
)

func putScriptKey(dst []byte, group uint64) {
	dst[0] = kindScript
	be.PutUint64(dst[1:], group)
}

func scriptKey(group uint64) []byte {
	b := make([]byte, scriptKeyLen)
	putScriptKey(b, group)
	return b
}

// appendLine appends an entry to a group's script.
func appendLine(dst []byte, e *kv.Entry) []byte {
	name, content := nameLen(e), contentLen(e)
	dst = be.AppendUint16(dst, uint16(name))
	dst = be.AppendUint32(dst, uint32(content))
	start := len(dst)
	dst = slices.Grow(dst, name+content)[:start+name+content]
	putName(dst[start:], e)
	putContent(dst[start+name:], e)
	return dst
}

// nextLine returns the first line of a script and what is after it; ok is false
// when there is none, or not all of it.
func nextLine(script []byte) (name, content, rest []byte, ok bool) {
	if len(script) < lineHead {
		return nil, nil, nil, false
	}
	n, c := int(be.Uint16(script)), int(be.Uint32(script[2:]))
	script = script[lineHead:]
	if len(script) < n+c {
		return nil, nil, nil, false
	}
	return script[:n], script[n : n+c], script[n+c:], true
}

func putVectorKey(dst []byte, origin uint64) {
	dst[0] = kindVector
	be.PutUint64(dst[1:], origin)
}

func putVectorValue(dst []byte, m journal.Mark) {
	be.PutUint64(dst, m.Seq)
	be.PutUint64(dst[8:], uint64(m.Stamp))
}

func decodeMark(key, value []byte) (journal.Mark, error) {
	if len(key) != originLen || len(value) != vectorLen {
		return journal.Mark{}, fmt.Errorf("%w: %w: vector item %x", ErrDamaged, errFormat, key)
	}
	return journal.Mark{Origin: be.Uint64(key[1:]), Seq: be.Uint64(value), Stamp: hlc.Timestamp(be.Uint64(value[8:]))}, nil
}
