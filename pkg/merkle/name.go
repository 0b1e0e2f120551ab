package merkle

import (
	"bytes"
	"math/bits"
)

// noBit is the first differing bit of equal names: behind every bit.
const noBit = 1<<31 - 1

// bitOf returns bit p of a name's bit string: for every byte of the key a 1 and
// its eight bits, the most significant first, then a 0; then the facet in the
// same way. So a key comes before the keys that it is a prefix of, and no bit
// string is a prefix of another.
func bitOf(key, facet []byte, p int) int {
	if end := 9 * len(key); p < end {
		return byteBit(key, p)
	} else if p == end {
		return 0
	} else {
		p -= end + 1
	}
	if p < 9*len(facet) {
		return byteBit(facet, p)
	}
	return 0
}

func byteBit(b []byte, p int) int {
	i, r := p/9, p%9
	if r == 0 {
		return 1
	}
	return int(b[i]>>(8-r)) & 1
}

// firstDifference returns the first bit in which two names differ, noBit if
// they are equal.
func firstDifference(k1, f1, k2, f2 []byte) int {
	if p := firstByteDifference(k1, k2); p >= 0 {
		return p
	}
	if p := firstByteDifference(f1, f2); p >= 0 {
		return 9*len(k1) + 1 + p
	}
	return noBit
}

// firstByteDifference returns the first differing bit of two coded byte strings,
// -1 if they are equal.
func firstByteDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	i := commonPrefix(a, b)
	if i == len(a) || i == len(b) {
		return 9 * i
	}
	return 9*i + 1 + bits.LeadingZeros8(a[i]^b[i])
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
