// Package kv says what an entry is and which of two wins.
//
// The store holds entries, one for each (key, facet). The merge rule is the
// only one there is: for one (key, facet) the greater version wins, on every
// node, whatever the order of arrival. Two pure functions derive everything
// else from all facets of one key together with the truncation mark: [View],
// what a reader sees, and [Cut], what belongs to the set at a closed epoch.
// Memory, index, session and journal call them; nobody else knows a rule.
//
// Merge is commutative, associative and idempotent; the tests say exactly
// those words.
package kv

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"merklekv/pkg/hlc"
)

// Limits of what is replicated. They are constants of the format and never
// configuration, or one node would refuse for ever what another one holds.
const (
	MaxKeyLen   = 512      // bytes; a client's key has at least 1
	MaxFacetLen = 128      // bytes; the plain register's facet has 0
	MaxValueLen = 16 << 20 // bytes
)

// MaxSeq is the greatest sequence number of a change: at a million changes a
// second an instance reaches it after nine years.
const MaxSeq = uint64(1)<<48 - 1

// MaxExpiry is the greatest instant of expiry, in Unix milliseconds: the last
// one that a version can express.
const MaxExpiry = int64(1)<<48 - 1

// Version orders all entries of the cluster: by hybrid logical clock first,
// then by instance. An instance is the random number that a node draws at every
// start, so no two writers share one.
type Version struct {
	HLC      hlc.Timestamp
	Instance uint64
}

// Compare returns -1, 0 or +1 as v is less than, equal to or greater than w.
func (v Version) Compare(w Version) int {
	if c := cmp.Compare(v.HLC, w.HLC); c != 0 {
		return c
	}
	return cmp.Compare(v.Instance, w.Instance)
}

// Less reports whether v is before w.
func (v Version) Less(w Version) bool { return v.Compare(w) < 0 }

// IsZero reports whether v is the version before all others.
func (v Version) IsZero() bool { return v == Version{} }

// Epoch returns the epoch of the write that made v.
func (v Version) Epoch() int64 { return v.HLC.Epoch() }

// String formats v as 16 hexadecimal digits, a hyphen and 16 more, so that
// versions sort as text as they do as versions.
func (v Version) String() string { return fmt.Sprintf("%016x-%016x", uint64(v.HLC), v.Instance) }

// ParseVersion reads what String wrote.
func ParseVersion(s string) (Version, error) {
	clock, instance, found := strings.Cut(s, "-")
	if !found || len(clock) != 16 || len(instance) != 16 {
		return Version{}, fmt.Errorf("version %q is not 16 hex digits, a hyphen and 16 hex digits", s)
	}
	h, err := strconv.ParseUint(clock, 16, 64)
	if err != nil {
		return Version{}, fmt.Errorf("version %q: clock: %w", s, err)
	}
	i, err := strconv.ParseUint(instance, 16, 64)
	if err != nil {
		return Version{}, fmt.Errorf("version %q: instance: %w", s, err)
	}
	return Version{HLC: hlc.Timestamp(h), Instance: i}, nil
}

// Flags are the properties of an entry that are replicated and hashed.
type Flags uint8

const (
	// Tombstone marks an entry that says its key was deleted. It has no value.
	Tombstone Flags = 1 << iota
	// HasExpiry says that ExpiresAt counts.
	HasExpiry

	// KnownFlags are all flags that this format version defines.
	KnownFlags = Tombstone | HasExpiry
)

// Entry is the unit of storage, replication and repair.
//
// Key and Facet name it. The empty facet is the plain register; other facets
// carry the parts of richer types. The empty key is reserved: its facets hold
// what belongs to the cluster (the truncation mark, the members), and no client
// can reach it.
//
// The slices of an Entry belong to whoever made it; a function that keeps an
// Entry copies them.
type Entry struct {
	Key       []byte
	Facet     []byte
	Version   Version
	Flags     Flags
	ExpiresAt int64 // Unix milliseconds, meaningful with HasExpiry
	Value     []byte
}

// IsTombstone reports whether e says that its key was deleted.
func (e *Entry) IsTombstone() bool { return e.Flags&Tombstone != 0 }

// IsReserved reports whether e belongs to the cluster instead of a client.
func (e *Entry) IsReserved() bool { return len(e.Key) == 0 }

// MarkFacet is the facet of the reserved key that holds the truncation mark: its
// version kills every client's version at or below it.
const MarkFacet = "t"

// IsMark reports whether e is the truncation mark.
func (e *Entry) IsMark() bool { return e.IsReserved() && string(e.Facet) == MarkFacet }

// Change is an entry together with its place in the sequence of the instance
// that wrote it. Sequence numbers start at 1 with every instance and their order
// is the order of versions. Seq 0 means that the place is not known, as with an
// entry that a full copy brought. The greatest Seq is MaxSeq.
type Change struct {
	Origin uint64
	Seq    uint64
	Entry  Entry
}

// Validate reports what makes e impossible in this format, nil if nothing does.
// Entries from outside are validated before they are merged.
func (e *Entry) Validate() error {
	switch {
	case len(e.Key) > MaxKeyLen:
		return fmt.Errorf("%w: %d bytes", ErrKeyTooLong, len(e.Key))
	case len(e.Facet) > MaxFacetLen:
		return fmt.Errorf("%w: facet of %d bytes", ErrInvalidEntry, len(e.Facet))
	case len(e.Key) == 0 && len(e.Facet) == 0:
		return fmt.Errorf("%w: reserved key without a facet", ErrInvalidEntry)
	case len(e.Value) > MaxValueLen:
		return fmt.Errorf("%w: %d bytes", ErrValueTooLong, len(e.Value))
	case e.Flags&^KnownFlags != 0:
		return fmt.Errorf("%w: unknown flags %#x", ErrInvalidEntry, uint8(e.Flags))
	case e.IsTombstone() && len(e.Value) > 0:
		return fmt.Errorf("%w: tombstone with a value", ErrInvalidEntry)
	case e.Flags&HasExpiry == 0 && e.ExpiresAt != 0:
		return fmt.Errorf("%w: expiry without its flag", ErrInvalidEntry)
	case e.ExpiresAt < 0 || e.ExpiresAt > MaxExpiry:
		return fmt.Errorf("%w: expiry %d out of range", ErrInvalidEntry, e.ExpiresAt)
	case e.Version.HLC == 0 || e.Version.Instance == 0:
		return fmt.Errorf("%w: no version", ErrInvalidEntry)
	}
	return nil
}

// Clone returns a copy of e that shares no memory with it.
func (e *Entry) Clone() Entry {
	c := *e
	buf := make([]byte, 0, len(e.Key)+len(e.Facet)+len(e.Value))
	buf = append(append(append(buf, e.Key...), e.Facet...), e.Value...)
	k, f := len(e.Key), len(e.Key)+len(e.Facet)
	c.Key, c.Facet, c.Value = buf[:k:k], buf[k:f:f], buf[f:]
	return c
}

// AppendContent appends the unambiguous bytes of e's content (flags, expiry and
// value, without its name and version) to dst. Only ties are broken by them.
func (e *Entry) AppendContent(dst []byte) []byte {
	dst = append(dst, byte(e.Flags))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.ExpiresAt))
	return append(dst, e.Value...)
}
