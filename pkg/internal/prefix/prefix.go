// Package prefix compares the beginnings of keys, for sorting many of them.
package prefix

import (
	"encoding/binary"
	"math/bits"
)

// Shared returns how many bytes two keys begin with in common.
func Shared(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}

// Head returns the first eight bytes of a key as a number that sorts like them;
// shorter keys are filled up with zeros and so may come out equal to longer ones.
func Head(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var short [8]byte
	copy(short[:], key)
	return binary.BigEndian.Uint64(short[:])
}
