package antientropy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"merklekv/pkg/internal/address"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// A member is an entry of the reserved key, replicated and hashed like any other:
//
//	facet   "m" and the node_id
//	value   deterministic CBOR, {1: instance, 2: address}; unknown fields are ignored
//
// A node writes its own when it joins. Forgetting a node deletes its entry.
const memberFacet = "m"

// Bounds of a member's entry, in bytes.
const (
	maxAddress     = 512
	maxMemberValue = 4 << 10
)

// ErrMember is returned for an entry that is no member's, or not in this form.
var ErrMember = errors.New("not a member")

// Member is a node of the cluster as its own entry tells of it.
type Member struct {
	NodeID   string
	Instance uint64     // of the start that wrote the entry; 0 if the value is not readable
	Address  string     // host:port where it can be dialled; empty if it is not told
	Version  kv.Version // of the entry
}

// memberValue is the value of a member's entry.
type memberValue struct {
	Instance uint64 `cbor:"1,keyasint"`
	Address  string `cbor:"2,keyasint,omitempty"`
}

// MemberFacet returns the facet of the reserved key that holds a node's entry. The
// node_id has 1 to 64 of A-Z a-z 0-9 . _ -
func MemberFacet(nodeID string) []byte { return []byte(memberFacet + nodeID) }

// EncodeMember returns the value of a member's entry. The address has at most 512
// bytes.
func EncodeMember(instance uint64, address string) []byte {
	return protocol.EncodeCBOR(memberValue{instance, address})
}

// DecodeMember reads a member's entry. Its errors wrap ErrMember. Where the entry
// names a node and only the value is not readable, the member is returned beside
// the error, without instance and address.
func DecodeMember(e *kv.Entry) (Member, error) {
	nodeID, found := strings.CutPrefix(string(e.Facet), memberFacet)
	if !e.IsReserved() || e.IsTombstone() || !found || !address.IsNodeID(nodeID) {
		return Member{}, fmt.Errorf("%w: facet %q", ErrMember, e.Facet)
	}
	m := Member{NodeID: nodeID, Version: e.Version}
	if len(e.Value) > maxMemberValue {
		return m, fmt.Errorf("%w: %s has a value of %d bytes", ErrMember, nodeID, len(e.Value))
	}
	var v memberValue
	if err := protocol.DecodeCBOR(e.Value, &v); err != nil {
		return m, fmt.Errorf("%w: %s: %w", ErrMember, nodeID, err)
	}
	if v.Instance == 0 || len(v.Address) > maxAddress {
		return m, fmt.Errorf("%w: %s has no instance, or an address of %d bytes", ErrMember, nodeID, len(v.Address))
	}
	m.Instance, m.Address = v.Instance, v.Address
	return m, nil
}

// Members returns the members among entries of the reserved key, sorted by
// node_id. An entry with a value that is not readable counts: a member that nobody
// can ask about must not be taken for one that does not exist.
func Members(entries []kv.Entry) []Member {
	var members []Member
	for i := range entries {
		if m, _ := DecodeMember(&entries[i]); m.NodeID != "" {
			members = append(members, m)
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return members
}
