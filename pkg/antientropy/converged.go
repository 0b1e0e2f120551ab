package antientropy

import (
	"cmp"
	"slices"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

const (
	// maxHeadAge is how old a head may be to say anything about now.
	maxHeadAge = 3 * time.Second
	// maxUnsettled is how long roots may differ while the vectors do not agree:
	// for so long, what is missing counts as on its way.
	maxUnsettled = 2 * time.Second
)

// Reasons of an unknown verdict.
const (
	reasonParameters = "parameters" // replicas that cannot be compared
	reasonUnheard    = "unheard"    // members without a fresh head
	reasonClock      = "clock"      // the epoch in question is in the future
	reasonSettling   = "settling"   // the epoch in question is not closed or not arrived everywhere
)

// Standing is what one node knows about the equality of all replicas at one
// moment.
type Standing struct {
	Millis  int64    // the clock's, since 1970
	Self    string   // the own node_id
	Members []Member // that are not forgotten
	Silent  []string // addresses of configured peers that were never heard from
	// Own are the own roots, taken after all that has arrived was drained.
	Own []RootAt
	// Heads are the newest ones of other nodes, one a node, members or not,
	// relayed ones included.
	Heads []PeerHead
	// Greatest is the greatest version that this node has issued, applied or ever
	// seen in a head.
	Greatest kv.Version
	// Asked is the version that the question is about; zero: about Greatest.
	Asked kv.Version
	// Vector is what this node has received, its own changes included.
	Vector []protocol.VectorItem
}

// AddHead adds a head: of each node the newest one stays.
func (s *Standing) AddHead(h PeerHead) {
	for i := range s.Heads {
		if s.Heads[i].NodeID == h.NodeID {
			if h.Age < s.Heads[i].Age {
				s.Heads[i] = h
			}
			return
		}
	}
	s.Heads = append(s.Heads, h)
}

// RootAt is a root of a closed epoch.
type RootAt struct {
	Epoch int64
	Root  merkle.Hash
}

// PeerHead is what another node told of itself last.
type PeerHead struct {
	NodeID   string
	Age      time.Duration // since it was true at the latest
	Params   bool          // whether epoch length, hash and grace are the own ones
	Greatest kv.Version    // that it has issued or applied
	Roots    []RootSeen
	Wrote    bool                  // whether it has made changes, the first of which is its member entry
	Vector   []protocol.VectorItem // of what it has received, as far as heads tell
	// Differs is how long its root at the newest common epoch has been another one
	// than here; 0 if it is the same, or if there is no common epoch.
	Differs time.Duration
}

// RootSeen is a root that another node told.
type RootSeen struct {
	RootAt
	// SameVector says that at this epoch the two nodes had received the same.
	SameVector bool
}

// Converged says whether all replicas are equal.
//
// They are if this node is a member, every member has a head no older than 3 s, all show one root at one
// common epoch, and that epoch covers the version in question. Two are different
// if their roots differ at a common epoch although they have received the same, or
// have differed for more than 2 s. All else is unknown. Roots are compared at the
// newest common epoch first, and what differs there is forgiven nowhere else.
func Converged(s *Standing) protocol.Verdict {
	own := slices.SortedFunc(slices.Values(s.Own), func(a, b RootAt) int { return cmp.Compare(b.Epoch, a.Epoch) })
	fresh := s.fresh()
	var proven, lasting []string
	for _, h := range fresh {
		switch p, l := h.differs(own); {
		case p:
			proven = append(proven, h.NodeID)
		case l:
			lasting = append(lasting, h.NodeID)
		}
	}
	if len(proven) > 0 {
		return different(append(proven, lasting...))
	}
	need := s.need()
	for _, o := range own {
		if o.Epoch >= need && s.joined() && s.equalAt(o, fresh) {
			return protocol.Verdict{Equality: protocol.Equal, Epoch: o.Epoch, Root: o.Root}
		}
	}
	if len(lasting) > 0 {
		return different(lasting)
	}
	return s.unknown(own, fresh, need)
}

// joined reports whether this node is a member. Before it is, it may not know who
// the others are.
func (s *Standing) joined() bool {
	return slices.ContainsFunc(s.Members, func(m Member) bool { return m.NodeID == s.Self })
}

func different(peers []string) protocol.Verdict {
	slices.Sort(peers)
	return protocol.Verdict{Equality: protocol.Different, Peers: peers}
}

// fresh returns the heads that say something about now, those of other parameters
// included.
func (s *Standing) fresh() []*PeerHead {
	var fresh []*PeerHead
	for i := range s.Heads {
		if h := &s.Heads[i]; h.NodeID != s.Self && h.Age <= maxHeadAge {
			fresh = append(fresh, h)
		}
	}
	return fresh
}

// need returns the epoch that must be covered.
func (s *Standing) need() int64 {
	if !s.Asked.IsZero() {
		return s.Asked.Epoch()
	}
	greatest := s.Greatest
	for i := range s.Heads {
		if greatest.Less(s.Heads[i].Greatest) {
			greatest = s.Heads[i].Greatest
		}
	}
	return greatest.Epoch()
}

// at returns the head's root of an epoch.
func (h *PeerHead) at(epoch int64) (RootSeen, bool) {
	for _, r := range h.Roots {
		if r.Epoch == epoch {
			return r, true
		}
	}
	return RootSeen{}, false
}

// differs reports whether the head's root differs from the own ones, newest first,
// although both have received the same, and whether it has differed for too long
// to be on its way.
func (h *PeerHead) differs(own []RootAt) (proven, lasting bool) {
	if !h.Params {
		return false, false // other roots say nothing
	}
	for _, o := range own {
		r, ok := h.at(o.Epoch)
		switch {
		case !ok:
		case r.Root == o.Root:
			return false, lasting
		case r.SameVector:
			return true, false
		default:
			lasting = h.Differs > maxUnsettled
		}
	}
	return false, lasting
}

// equalAt reports whether all members show the own root of an epoch, those too that
// joined after it: an entry that is newer may be a member's that started again. Who
// is no member counts as far as it shows a root; who has written something, or holds what
// is not here, is one whose entry has not come yet.
func (s *Standing) equalAt(own RootAt, fresh []*PeerHead) bool {
	for _, m := range s.Members {
		if m.NodeID == s.Self {
			continue
		}
		h := headOf(m.NodeID, fresh)
		if h == nil {
			return false
		}
		if _, ok := h.at(own.Epoch); !ok {
			return false
		}
	}
	for _, h := range fresh {
		switch r, ok := h.at(own.Epoch); {
		case !h.Params, ok && r.Root != own.Root, !ok && (h.Wrote || h.holdsMore(s.Vector)):
			return false
		}
	}
	return len(s.Silent) == 0
}

// holdsMore reports whether the head's sender has received what is missing in a vector.
func (h *PeerHead) holdsMore(own []protocol.VectorItem) bool {
	received := make(map[uint64]uint64, len(own))
	for _, it := range own {
		received[it.Instance] = it.Seq
	}
	return slices.ContainsFunc(h.Vector, func(it protocol.VectorItem) bool { return it.Seq > received[it.Instance] })
}

func headOf(nodeID string, heads []*PeerHead) *PeerHead {
	for _, h := range heads {
		if h.NodeID == nodeID {
			return h
		}
	}
	return nil
}

// unknown names the first reason of those that hold, and those for whose sake it
// does.
func (s *Standing) unknown(own []RootAt, fresh []*PeerHead, need int64) protocol.Verdict {
	var parameters, settling []string
	for _, h := range fresh {
		switch {
		case !h.Params:
			parameters = append(parameters, h.NodeID)
		case !h.shows(own, need):
			settling = append(settling, h.NodeID)
		}
	}
	unheard := slices.Clone(s.Silent)
	for _, m := range s.Members {
		if m.NodeID != s.Self && headOf(m.NodeID, fresh) == nil {
			unheard = append(unheard, m.NodeID)
		}
	}
	if !s.joined() {
		settling = append(settling, s.Self)
	}
	v := protocol.Verdict{Reason: reasonSettling, Peers: settling}
	switch {
	case len(parameters) > 0:
		v.Reason, v.Peers = reasonParameters, parameters
	case len(unheard) > 0:
		v.Reason, v.Peers = reasonUnheard, unheard
	case need > hlc.At(s.Millis).Epoch()+1:
		v.Reason, v.Peers = reasonClock, s.ahead(need)
	}
	slices.Sort(v.Peers)
	return v
}

// shows reports whether the head shows an own root of an epoch from need on.
func (h *PeerHead) shows(own []RootAt, need int64) bool {
	return slices.ContainsFunc(own, func(o RootAt) bool {
		r, ok := h.at(o.Epoch)
		return ok && o.Epoch >= need && r.Root == o.Root
	})
}

// ahead returns the nodes that tell of a version of an epoch, none if it is this
// node's own.
func (s *Standing) ahead(epoch int64) []string {
	var nodes []string
	for i := range s.Heads {
		if s.Heads[i].Greatest.Epoch() >= epoch {
			nodes = append(nodes, s.Heads[i].NodeID)
		}
	}
	return nodes
}
