package antientropy

import (
	"slices"
	"testing"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

const nowEpoch = int64(1_700_000_000)

// versionAt is a version of the epoch that is i before the present one.
func versionAt(i int64) kv.Version {
	return kv.Version{HLC: hlc.At((nowEpoch - i) * hlc.MillisPerEpoch), Instance: 1}
}

// rootNo is root number n of the epoch that is i before the present one.
func rootNo(i int64, n byte) RootAt { return RootAt{nowEpoch - i, merkle.Hash{n}} }

// tells is a fresh head with root n at the last three epochs.
func tells(nodeID string, n byte) PeerHead {
	h := PeerHead{NodeID: nodeID, Age: time.Second, Params: true, Greatest: versionAt(3)}
	for i := int64(1); i <= 3; i++ {
		h.Roots = append(h.Roots, RootSeen{rootNo(i, n), true})
	}
	return h
}

// equalStanding is that of node a among three that are equal.
func equalStanding() *Standing {
	return &Standing{
		Millis: nowEpoch*hlc.MillisPerEpoch + 500, Self: "a",
		Members: []Member{
			{NodeID: "a", Version: versionAt(90)}, {NodeID: "b", Version: versionAt(90)}, {NodeID: "c", Version: versionAt(90)},
		},
		Own:      []RootAt{rootNo(3, 7), rootNo(2, 7), rootNo(1, 7)},
		Heads:    []PeerHead{tells("b", 7), tells("c", 7)},
		Greatest: versionAt(3),
	}
}

func equal(i int64, n byte) protocol.Verdict {
	r := rootNo(i, n)
	return protocol.Verdict{Equality: protocol.Equal, Epoch: r.Epoch, Root: r.Root}
}

func unknown(reason string, peers ...string) protocol.Verdict {
	return protocol.Verdict{Reason: reason, Peers: peers}
}

// setRoot changes root n of a head at the epoch that is i before the present one.
func setRoot(h *PeerHead, i int64, n byte, same bool) {
	for j := range h.Roots {
		if h.Roots[j].Epoch == nowEpoch-i {
			h.Roots[j] = RootSeen{rootNo(i, n), same}
		}
	}
}

func drop(h *PeerHead, epochs ...int64) {
	h.Roots = slices.DeleteFunc(h.Roots, func(r RootSeen) bool { return slices.Contains(epochs, nowEpoch-r.Epoch) })
}

func TestConvergedByItsRule(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *Standing)
		want   protocol.Verdict
	}{
		{"all is well", func(*Standing) {}, equal(1, 7)},
		{"a single node", func(s *Standing) { s.Members, s.Heads = s.Members[:1], nil }, equal(1, 7)},
		{"this node is no member yet", func(s *Standing) { s.Members, s.Heads = nil, nil }, unknown("settling", "a")},
		{"this node is no member, and roots differ", func(s *Standing) {
			s.Members = nil
			setRoot(&s.Heads[1], 1, 8, true)
		}, protocol.Verdict{Equality: protocol.Different, Peers: []string{"c"}}},
		{"nothing was ever written", func(s *Standing) {
			s.Greatest = kv.Version{}
			s.Heads[0].Greatest, s.Heads[1].Greatest = kv.Version{}, kv.Version{}
		}, equal(1, 7)},

		// Every member has a head no older than 3 s.
		{"no head", func(s *Standing) { s.Heads = s.Heads[:1] }, unknown("unheard", "c")},
		{"a head of 3 s", func(s *Standing) { s.Heads[1].Age = 3 * time.Second }, equal(1, 7)},
		{"a head older than 3 s", func(s *Standing) { s.Heads[1].Age = 3*time.Second + 1 }, unknown("unheard", "c")},
		{"an old head that differs", func(s *Standing) {
			s.Heads[1] = tells("c", 8)
			s.Heads[1].Age = time.Minute
		}, unknown("unheard", "c")},
		{"a configured peer that was never heard", func(s *Standing) { s.Silent = []string{"d:7878"} }, unknown("unheard", "d:7878")},
		{"all that are unheard, sorted", func(s *Standing) {
			s.Heads, s.Silent = nil, []string{"a.example:1"}
		}, unknown("unheard", "a.example:1", "b", "c")},
		{"a head of oneself is nobody's", func(s *Standing) {
			s.Heads = append(s.Heads, tells("a", 9))
		}, equal(1, 7)},

		// All show one root at one common epoch.
		{"the newest epoch is not there yet", func(s *Standing) { drop(&s.Heads[0], 1) }, equal(2, 7)},
		{"each lacks another epoch", func(s *Standing) {
			drop(&s.Heads[0], 1)
			drop(&s.Heads[1], 2)
		}, equal(3, 7)},
		{"no epoch is common to all", func(s *Standing) {
			drop(&s.Heads[0], 1, 2)
			drop(&s.Heads[1], 2, 3)
		}, unknown("settling")},
		{"the own root is not there", func(s *Standing) { s.Own = nil }, unknown("settling", "b", "c")},

		// The epoch is at least that of the greatest version issued, applied or seen.
		{"the own write is not covered", func(s *Standing) { s.Greatest = versionAt(0) }, unknown("settling", "b", "c")},
		{"another's write is not covered", func(s *Standing) { s.Heads[0].Greatest = versionAt(0) }, unknown("settling", "b", "c")},
		{"an unheard node's write is not covered either", func(s *Standing) {
			s.Members = s.Members[:2]
			s.Heads[1].Age, s.Heads[1].Greatest = time.Hour, versionAt(0)
		}, unknown("settling", "b")},
		{"the write is covered by the newest epoch only", func(s *Standing) { s.Greatest = versionAt(1) }, equal(1, 7)},
		{"that one is not there everywhere", func(s *Standing) {
			s.Greatest = versionAt(1)
			drop(&s.Heads[0], 1)
		}, unknown("settling", "b")},
		{"own write from the future", func(s *Standing) { s.Greatest = versionAt(-2) }, unknown("clock")},
		{"another's write from the future", func(s *Standing) { s.Heads[1].Greatest = versionAt(-2) }, unknown("clock", "c")},

		// CONVERGED <version> requires only that version's epoch.
		{"asked for an old version under load", func(s *Standing) {
			s.Asked, s.Greatest, s.Heads[0].Greatest = versionAt(2), versionAt(0), versionAt(0)
		}, equal(1, 7)},
		{"the asked version is not covered", func(s *Standing) { s.Asked = versionAt(0) }, unknown("settling", "b", "c")},
		{"the asked version is from the future", func(s *Standing) { s.Asked = versionAt(-9) }, unknown("clock")},
		{"asked for what an older epoch covers", func(s *Standing) {
			s.Asked = versionAt(2)
			setRoot(&s.Heads[0], 1, 8, false)
			s.Heads[0].Differs = time.Second
		}, equal(2, 7)},

		// Different at a common epoch with equal vectors, or for longer than 2 s.
		{"different though the same arrived", func(s *Standing) { s.Heads[0] = tells("b", 8) },
			protocol.Verdict{Equality: protocol.Different, Peers: []string{"b"}}},
		{"two are different", func(s *Standing) { s.Heads = []PeerHead{tells("c", 8), tells("b", 9)} },
			protocol.Verdict{Equality: protocol.Different, Peers: []string{"b", "c"}}},
		{"different is known though one is unheard", func(s *Standing) { s.Heads = []PeerHead{tells("b", 8)} },
			protocol.Verdict{Equality: protocol.Different, Peers: []string{"b"}}},
		{"different at the newest epoch, equal before", func(s *Standing) { setRoot(&s.Heads[0], 1, 8, true) },
			protocol.Verdict{Equality: protocol.Different, Peers: []string{"b"}}},
		{"equal at the newest epoch, different before", func(s *Standing) {
			setRoot(&s.Heads[0], 2, 8, true)
			setRoot(&s.Heads[0], 3, 8, true)
		}, equal(1, 7)},
		{"proven at an older epoch, on its way at the newest", func(s *Standing) {
			setRoot(&s.Heads[0], 1, 9, false)
			setRoot(&s.Heads[0], 2, 8, true)
		}, protocol.Verdict{Equality: protocol.Different, Peers: []string{"b"}}},
		{"on its way for 2 s", func(s *Standing) {
			for i := int64(1); i <= 3; i++ {
				setRoot(&s.Heads[0], i, 8, false)
			}
			s.Heads[0].Differs = 2 * time.Second
		}, unknown("settling", "b")},
		{"on its way for longer than 2 s", func(s *Standing) {
			for i := int64(1); i <= 3; i++ {
				setRoot(&s.Heads[0], i, 8, false)
			}
			s.Heads[0].Differs = 2*time.Second + 1
		}, protocol.Verdict{Equality: protocol.Different, Peers: []string{"b"}}},
		{"lasting at the newest epoch, but equal where it matters", func(s *Standing) {
			setRoot(&s.Heads[0], 1, 8, false)
			s.Heads[0].Differs = time.Minute
		}, equal(2, 7)},

		// Parameters.
		{"other parameters are not compared", func(s *Standing) {
			s.Heads[0] = tells("b", 8)
			s.Heads[0].Params = false
		}, unknown("parameters", "b")},
		{"nor are they equal", func(s *Standing) { s.Heads[0].Params = false }, unknown("parameters", "b")},

		// Members of S_e.
		{"who joined later, or joined again, counts as well", func(s *Standing) {
			s.Asked = versionAt(2)
			s.Members = append(s.Members, Member{NodeID: "d", Version: versionAt(1)})
			s.Own, s.Heads[0], s.Heads[1] = s.Own[:2], tells("b", 7), tells("c", 7)
		}, unknown("unheard", "d")},
		{"who joined in time is one", func(s *Standing) {
			s.Members = append(s.Members, Member{NodeID: "d", Version: versionAt(3)})
		}, unknown("unheard", "d")},
		{"who is forgotten is none", func(s *Standing) { s.Members, s.Heads = s.Members[:2], s.Heads[:1] }, equal(1, 7)},
		{"who is no member yet must not differ", func(s *Standing) { s.Heads = append(s.Heads, tells("d", 8)) },
			protocol.Verdict{Equality: protocol.Different, Peers: []string{"d"}}},
		{"whose member entry has not come yet shows nothing", func(s *Standing) {
			s.Heads = append(s.Heads, PeerHead{NodeID: "d", Params: true, Wrote: true})
		}, unknown("settling", "d")},
		{"whose member entry has not come yet holds more", func(s *Standing) {
			s.Vector = []protocol.VectorItem{{Instance: 3, Seq: 5}}
			s.Heads = append(s.Heads, PeerHead{NodeID: "d", Params: true, Vector: []protocol.VectorItem{{Instance: 3, Seq: 6}}})
		}, unknown("settling", "d")},
		{"who is no member yet has received a part", func(s *Standing) {
			s.Vector = []protocol.VectorItem{{Instance: 3, Seq: 5}}
			s.Heads = append(s.Heads, PeerHead{NodeID: "d", Params: true, Vector: []protocol.VectorItem{{Instance: 3, Seq: 5}}})
		}, equal(1, 7)},
		{"who is no member yet and shows nothing", func(s *Standing) {
			s.Heads = append(s.Heads, PeerHead{NodeID: "d", Params: true})
		}, equal(1, 7)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := equalStanding()
			tt.change(s)
			got := Converged(s)
			if got.Equality != tt.want.Equality || got.Epoch != tt.want.Epoch || got.Root != tt.want.Root ||
				got.Reason != tt.want.Reason || !slices.Equal(got.Peers, tt.want.Peers) {
				t.Errorf("%v %s, want %v %s", got.Equality, got.AppendDetails(nil), tt.want.Equality, tt.want.AppendDetails(nil))
			}
		})
	}
}

// The order in which heads, roots and members are named decides nothing.
func TestConvergedDoesNotDependOnOrder(t *testing.T) {
	for _, change := range []func(s *Standing){
		func(*Standing) {},
		func(s *Standing) { s.Heads[0] = tells("b", 8) },
		func(s *Standing) { s.Heads = s.Heads[:1]; s.Silent = []string{"y:1", "x:1"} },
		func(s *Standing) { s.Greatest = versionAt(0) },
	} {
		s, r := equalStanding(), equalStanding()
		change(s)
		change(r)
		slices.Reverse(r.Heads)
		slices.Reverse(r.Own)
		slices.Reverse(r.Members)
		slices.Reverse(r.Silent)
		for i := range r.Heads {
			slices.Reverse(r.Heads[i].Roots)
		}
		a, b := Converged(s), Converged(r)
		if a.Equality != b.Equality || string(a.AppendDetails(nil)) != string(b.AppendDetails(nil)) {
			t.Errorf("%v %s, reversed %v %s", a.Equality, a.AppendDetails(nil), b.Equality, b.AppendDetails(nil))
		}
	}
}
