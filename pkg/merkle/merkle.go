// Package merkle keeps a canonical, history-independent hash tree over a set of
// named tags.
package merkle

// HashID names the hash of this package in handshakes. Nodes with different ids
// cannot compare trees.
const HashID = "merklekv-sha256-1"

// Tag is what the tree holds of one entry: a digest of its name, version, flags,
// expiry and value. See [TagOf].
type Tag [16]byte

// Hash is the canonical hash of a set of items.
type Hash [32]byte

// Item is one element of the set: the name of an entry and its tag.
type Item struct {
	Key, Facet []byte
	Tag        Tag
}

// Update sets the tag of one name or, with Remove, takes the name out.
type Update struct {
	Key, Facet []byte
	Tag        Tag
	Remove     bool
}
