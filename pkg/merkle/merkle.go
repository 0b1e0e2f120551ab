// Package merkle keeps a canonical, history-independent hash tree over a set of
// named tags.
package merkle

import "bytes"

// HashID names the hash of this package in handshakes. Nodes with different ids
// cannot compare trees.
const HashID = "merklekv-sha256-1"

// maxFlat is the greatest number of items that are hashed in one piece.
const maxFlat = 32

// Tag is what the tree holds of one entry: a digest of its name, version, flags,
// expiry and value. See [TagOf].
type Tag [16]byte

// Hash is the canonical hash of a set of entries.
type Hash [32]byte

// Item is one element of the set: the name of an entry and its tag.
type Item struct {
	Key, Facet []byte
	Tag        Tag
}

// Update sets the tag of one name, or removes the name.
type Update struct {
	Key, Facet []byte
	Tag        Tag
	Remove     bool
}

// CompareNames orders names as the tree does: by the bytes of the key, then by
// the bytes of the facet, the shorter first. It returns -1, 0 or +1.
func CompareNames(k1, f1, k2, f2 []byte) int {
	if c := bytes.Compare(k1, k2); c != 0 {
		return c
	}
	return bytes.Compare(f1, f2)
}
