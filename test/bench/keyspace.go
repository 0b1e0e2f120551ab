package main

import "bytes"

// keyLen is the length of every key: a prefix and twelve digits.
const keyLen = 16

// keyspace names keys by number and knows the value of each, so that every
// value read back can be checked without remembering what was written.
type keyspace struct {
	prefix [keyLen - 12]byte
	size   int // bytes of a value
}

// newKeyspace returns a key space with the first four bytes of prefix in its
// keys, and values of size bytes, at least keyLen.
func newKeyspace(prefix string, size int) keyspace {
	ks := keyspace{size: max(size, keyLen)}
	copy(ks.prefix[:], prefix)
	return ks
}

// AppendKey appends key i.
func (ks keyspace) AppendKey(dst []byte, i int) []byte {
	dst = append(dst, ks.prefix[:]...)
	var digits [keyLen - 4]byte
	for d := len(digits) - 1; d >= 0; d-- {
		digits[d] = byte('0' + i%10)
		i /= 10
	}
	return append(dst, digits[:]...)
}

// padding is what a value holds after its key; each value begins elsewhere in it.
const padding = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// AppendValue appends the value of key i: the key itself, then padding.
func (ks keyspace) AppendValue(dst []byte, i int) []byte {
	dst = ks.AppendKey(dst, i)
	left := ks.size - keyLen
	for from := i % len(padding); left > 0; from = 0 {
		n := min(left, len(padding)-from)
		dst = append(dst, padding[from:from+n]...)
		left -= n
	}
	return dst
}

// IsValue reports whether got is the value of key i. scratch is overwritten and
// returned for the next call.
func (ks keyspace) IsValue(got []byte, i int, scratch []byte) (bool, []byte) {
	scratch = ks.AppendValue(scratch[:0], i)
	return bytes.Equal(got, scratch), scratch
}
