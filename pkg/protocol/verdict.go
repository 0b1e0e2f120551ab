package protocol

import (
	"encoding/hex"
	"strconv"
)

// Equality says whether the replicas of a cluster are equal.
type Equality uint8

const (
	// Unknown: it cannot be told now; the reason says why.
	Unknown Equality = iota
	// Equal: all members show one root at one epoch, and it covers what was asked
	// for.
	Equal
	// Different: some members show another root than this node, and nothing that
	// is on its way explains it.
	Different
)

// String returns the word as clients read it.
func (e Equality) String() string {
	switch e {
	case Equal:
		return "EQUAL"
	case Different:
		return "DIFFERENT"
	}
	return "UNKNOWN"
}

// Verdict is the answer to CONVERGED.
type Verdict struct {
	Equality Equality
	Epoch    int64    // at which the roots are equal
	Root     [32]byte // the one of Equal
	Reason   string   // of Unknown: one word
	// Peers are the node_ids, or where none is known the addresses, of those that
	// differ, or for whose sake it is unknown.
	Peers []string
}

// AppendDetails appends what follows the word in the answer, without the blank
// between them: epoch and root, the peers, or reason and peers. What a word
// cannot carry is percent-escaped.
func (v *Verdict) AppendDetails(dst []byte) []byte {
	if v.Equality == Equal {
		dst = append(strconv.AppendInt(dst, v.Epoch, 10), ' ')
		return hex.AppendEncode(dst, v.Root[:])
	}
	words := v.Peers
	if v.Equality == Unknown {
		words = append([]string{v.Reason}, v.Peers...)
	}
	for i, w := range words {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = AppendEscaped(dst, []byte(w))
	}
	return dst
}
