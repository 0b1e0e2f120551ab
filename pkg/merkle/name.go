package merkle

import (
	"bytes"
	"math"
	"math/bits"

	"merklekv/pkg/internal/prefix"
)

// noBit is the first differing bit of equal names: behind every bit.
const noBit = math.MaxInt32

// CompareNames orders names as the tree does: by the bytes of the key, then by
// the bytes of the facet, what is a prefix first. It returns -1, 0 or +1.
func CompareNames(k1, f1, k2, f2 []byte) int {
	if c := bytes.Compare(k1, k2); c != 0 {
		return c
	}
	return bytes.Compare(f1, f2)
}

// bitOf returns bit p of a name's bit string: for every byte of the key a 1 and
// its eight bits, the most significant first, then a 0; then the facet in the
// same way. No bit string is a prefix of another, and they are ordered as the
// names are. Behind its end a bit string has zeros.
func bitOf(key, facet []byte, p int) int {
	end := 9 * len(key)
	switch {
	case p < end:
		return byteBit(key, p)
	case p > end && p-end-1 < 9*len(facet):
		return byteBit(facet, p-end-1)
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
	if p := differingBit(k1, k2); p != noBit {
		return p
	}
	if p := differingBit(f1, f2); p != noBit {
		return 9*len(k1) + 1 + p
	}
	return noBit
}

// differingBit is firstDifference for one coded byte string.
func differingBit(a, b []byte) int {
	i := prefix.Shared(a, b)
	switch {
	case i < len(a) && i < len(b):
		return 9*i + 1 + bits.LeadingZeros8(a[i]^b[i])
	case len(a) != len(b):
		return 9 * i
	}
	return noBit
}

// criticalBit returns the bit at which sorted updates part, noBit if there is
// one update only.
func criticalBit(u []Update) int {
	first, last := &u[0], &u[len(u)-1]
	return firstDifference(first.Key, first.Facet, last.Key, last.Facet)
}

// splitAt returns how many of the sorted updates have a 0 at a bit before which
// they are all equal.
func splitAt(u []Update, bit int) int {
	lo, hi := 0, len(u)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if bitOf(u[mid].Key, u[mid].Facet, bit) == 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
