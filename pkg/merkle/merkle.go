// Package merkle keeps a set of named tags as a tree with a canonical hash: the
// hash is a function of the set alone, whatever the history. It is what nodes
// compare to learn whether they hold the same entries, and what they walk
// through to learn where they differ.
//
// A [Tree] is an immutable value: [Tree.Apply] returns another one that shares
// what did not change, and a copy is a snapshot. [Tree.Range], [Tree.Prefix] and
// [Tree.Split] cut trees out of trees, each with the canonical hash of its own
// items; [Diff] finds what differs. The package knows neither peers nor time nor
// values.
//
// Hashes are over tags only, so a tag must tell the name of its entry, as those
// of [TagOf] do; equal tags under two names would be taken for one item.
//
// DESIGN.md defines the hash and draws the tree.
package merkle

// HashID names the hash of this package in handshakes. Nodes with different ids
// cannot compare trees.
const HashID = "merklekv-sha256-1"

// Tag is what the tree holds of one entry: a digest of its name, version, flags,
// expiry and value. See [TagOf].
type Tag [16]byte

// Hash is the canonical hash of a set of items, a SHA-256.
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
