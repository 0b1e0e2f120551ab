package antientropy

import (
	"encoding/binary"

	"github.com/dchest/siphash"

	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// sessionWidths are the lengths of digests on the wire, in bits (1 to 64). Each
// takes whole bytes.
type sessionWidths struct{ frontier, child, list int }

// usualWidths make a false match rare: one in 2^58 for a frontier, one in 2^32
// below it. A false match hides a difference from one session only.
var usualWidths = sessionWidths{frontier: 64, child: 32, list: 32}

// sessionMarks makes a session's digests: SipHash-2-4 (Aumasson and Bernstein,
// INDOCRYPT 2012) under keys taken from the salt. Who does not know the salt
// before the session cannot prepare sets that collide.
type sessionMarks struct {
	sessionWidths
	nodeKey [2]uint64 // for hashes of subtrees
	keyKey  [2]uint64 // for tags of keys and entries
}

func newSessionMarks(salt [32]byte, widths *sessionWidths) sessionMarks {
	m := sessionMarks{sessionWidths: usualWidths}
	if widths != nil {
		m.sessionWidths = *widths
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(salt[8*i:]) }
	m.nodeKey, m.keyKey = [2]uint64{word(0), word(1)}, [2]uint64{word(2), word(3)}
	return m
}

// fingerprint returns the digest of a set, of bits bits.
func (m *sessionMarks) fingerprint(t merkle.Tree, bits int) uint64 {
	h := t.Hash()
	return siphash.Hash(m.nodeKey[0], m.nodeKey[1], h[:]) >> (64 - bits)
}

// digest returns the digest of a key from the tags of all its facets in order.
func (m *sessionMarks) digest(tags []byte) uint64 {
	return siphash.Hash(m.keyKey[0], m.keyKey[1], tags) >> (64 - m.sessionWidths.list)
}

// check returns a digest of an entry, so that equal versions with different
// contents are told apart.
func (m *sessionMarks) check(e *kv.Entry) uint32 {
	tag := merkle.TagOf(e)
	return uint32(siphash.Hash(m.keyKey[0], m.keyKey[1], tag[:]))
}

// bits returns the length of fingerprints, in the frontier and below it.
func (m *sessionMarks) bits(frontier bool) int {
	if frontier {
		return m.frontier
	}
	return m.child
}

// width returns how many bytes a digest of bits bits takes.
func width(bits int) int { return (bits + 7) / 8 }

// appendDigest appends the low bytes of d, the highest first.
func appendDigest(dst []byte, d uint64, bits int) []byte {
	for i := width(bits) - 1; i >= 0; i-- {
		dst = append(dst, byte(d>>(8*i)))
	}
	return dst
}

// digestOf reads what appendDigest wrote.
func digestOf(b []byte) (d uint64) {
	for _, x := range b {
		d = d<<8 | uint64(x)
	}
	return d
}
