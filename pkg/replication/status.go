package replication

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"merklekv/pkg/protocol"
)

// Status is what a replicator knows of itself and its peers.
type Status struct {
	Ready    bool
	Reasons  []string // why it is not, or why it steps down
	Instance uint64
	Vector   []protocol.VectorItem
	Peers    []PeerStatus
	Brokers  []BrokerStatus
	Deferred []Deferred
	Failing  []FailingAddress // addresses of peers that cannot be used at present
	Gaps     int              // origins of which something is known to be missing
	Pulling  int              // pulls under way

	Epochs     []EpochHead  // own roots as told now, newest first; Root is nil where none may be told
	Unfillable []Unfillable // origins whose missing changes no log reaches, by instance
	Silent     []string     // configured addresses where nobody ever answered
	Paused     bool         // see SetEnabled
	Shut       []string     // the sources for whose sake nothing is taken in: see SetIntake
	Clones     []Clone      // other live nodes that run on a copy of this node's data, or this one on theirs
}

// Clone is a live node whose data directory has the number of this node's: one of
// the two runs on a copy of the other's.
type Clone struct {
	NodeID   string
	Instance uint64
	Address  string
}

// Unfillable is an origin of which something is missing that no live peer's log
// holds any more: a repair session has to bring it.
type Unfillable struct {
	Origin uint64
	Holder uint64        // instance of the live peer that holds most of it
	Since  time.Duration // ago
}

// FailingAddress is an address at which no peer can be reached, or whose peer
// refuses this node.
type FailingAddress struct {
	Address string
	Reason  string
}

// failingFor is how long a failed dial is news. Where a peer cannot be done without,
// it is dialled again sooner; else nobody tries, and nobody knows.
const failingFor = 30 * time.Second

// failing returns the addresses whose last dials failed, lately and more than once.
func (c *Core) failing() []FailingAddress {
	var list []FailingAddress
	for _, e := range c.endpointsByAddr() {
		if e.err != "" && !e.self && e.fails > 1 && c.now-e.dialed <= failingFor {
			list = append(list, FailingAddress{Address: e.addr, Reason: e.err})
		}
	}
	return list
}

// PeerStatus is what is known of one peer.
type PeerStatus struct {
	NodeID     string
	Instance   uint64
	Address    string
	Version    string
	Live       bool          // heard from within the last five seconds
	Heard      time.Duration // ago
	ByMQTT     bool          // heard by MQTT lately
	LagEntries uint64        // changes of it that are missing here
	LagMillis  int64         // its newest change's stamp less that of the newest one here
	Missing    uint64        // own changes that it is not known to hold
	Wall       int64         // its clock in its last head, Unix milliseconds
	Head       *Head         // its last one, nil if none came; not to be changed

	// HeadAge is how long ago its newest head was made, as far as is known: when it
	// came, plus what the nodes that passed it on said. An hour and more: none came.
	HeadAge     time.Duration
	ParamsEqual bool        // its head's parameters are the own ones
	Epochs      []EpochView // its last closed epochs, newest first
}

// EpochView is one closed epoch as a peer's newest head tells of it, and as it is
// here.
type EpochView struct {
	Epoch        int64
	Root         []byte // the peer's; nil: it tells none
	Count        uint64 // the peer's
	Own          []byte // the own root; nil: none may be told now
	VectorsEqual bool   // at this epoch both have received the same
}

// instanceTag is a short form of the instance for people.
func (p *PeerStatus) instanceTag() string { return fmt.Sprintf("%08x", p.Instance>>32) }

// BrokerStatus is the state of the link to one broker.
type BrokerStatus struct {
	Address  string
	Up       bool
	Reason   string // why it is down
	Since    time.Time
	Dropped  uint64 // messages that came faster than they were applied
	Oversize uint64
}

// Status returns what is known now, without the brokers.
func (c *Core) Status() Status {
	s := Status{
		Ready: c.ready && c.leaving == nil, Reasons: c.reasons(), Instance: c.set.Instance,
		Vector: vectorItems(c.vec), Deferred: c.deferredList(), Failing: c.failing(), Gaps: len(c.wants), Pulling: len(c.pulling),
		Epochs: c.epochsTold(), Unfillable: c.unfillable(), Silent: c.silent(), Paused: c.paused,
		Shut: slices.Sorted(maps.Keys(c.shut)), Clones: c.clones(),
	}
	own := c.vec.Prefix(c.set.Instance).Seq
	for _, id := range slices.Sorted(maps.Keys(c.peers)) {
		p := c.peers[id]
		here, there := c.vec.Prefix(id), p.known[id]
		ps := PeerStatus{
			NodeID: p.nodeID, Instance: id, Address: p.address, Version: p.version, Live: c.live(p),
			Heard: c.now - p.heard, ByMQTT: c.now-p.heardMQTT <= mqttSilence, Head: p.head, HeadAge: c.now - p.made,
		}
		if there.Seq > here.Seq {
			ps.LagEntries = there.Seq - here.Seq
			ps.LagMillis = max(0, there.HLC.Millis()-here.HLC.Millis())
			if here.Seq == 0 {
				ps.LagMillis = max(0, there.HLC.Millis()-p.started)
			}
		}
		if held := p.known[c.set.Instance].Seq; own > held {
			ps.Missing = own - held
		}
		if p.head != nil {
			ps.Wall, ps.ParamsEqual = p.head.Wall, p.head.Params == c.set.Params
			if ps.HeadAge <= forgetHeads {
				ps.Epochs = c.epochViews(p, s.Epochs)
			}
		}
		s.Peers = append(s.Peers, ps)
	}
	return s
}

// deferredList returns the deferrals by instance.
func (c *Core) deferredList() []Deferred {
	var list []Deferred
	for _, id := range slices.Sorted(maps.Keys(c.deferred)) {
		list = append(list, c.deferred[id].Deferred)
	}
	return list
}
