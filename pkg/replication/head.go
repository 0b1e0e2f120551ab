package replication

import (
	"fmt"
	"slices"

	"merklekv/pkg/hlc"
	"merklekv/pkg/internal/address"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// keptEpochs is how many closed epochs a head tells of.
const keptEpochs = 4

// maxHeadItems bounds the instances in a head.
const maxHeadItems = 4096

// Head is what a node tells of itself each second.
type Head struct {
	NodeID   string
	Instance uint64
	Started  int64       // Unix milliseconds
	Counter  uint64      // grows with each head of the instance
	Wall     int64       // the sender's clock, Unix milliseconds
	Last     vector.Mark // newest own change
	Greatest kv.Version
	Params   protocol.PeerParams
	Vector   []protocol.VectorItem // applied, by ascending instance
	Epochs   []EpochHead           // the last closed ones, newest first
	Deferred []Deferred
	Rest     Digest   // of what was applied of instances that Vector leaves out
	Address  string   // host:port where the node can be dialled
	Peers    []string // addresses of peers that the node hears, at most 256
	Paused   bool     // it neither publishes changes nor takes or gives any
	Volume   uint64   // random number of the directory that keeps its data; 0: none does
	Shut     bool     // it takes no changes, but gives its own
}

// EpochHead is what a node tells of one closed epoch.
type EpochHead struct {
	Epoch int64
	Root  []byte // nil: not known
	Count uint64
	Marks []vector.Mark // the applied vector at this epoch, parallel to Head.Vector
}

// Deferred is a change that counts as not received until its due time.
type Deferred struct {
	_        struct{} `cbor:",toarray"`
	Instance uint64
	Seq      uint64 // 0: not known
	Due      int64  // Unix milliseconds
}

// headBody is a Head on the wire. A vector at an epoch is told by how far it is
// behind the present one, two numbers for each instance: mostly zeros.
type headBody struct {
	NodeID   string                `cbor:"1,keyasint"`
	Instance uint64                `cbor:"2,keyasint"`
	Started  int64                 `cbor:"3,keyasint"`
	Counter  uint64                `cbor:"4,keyasint"`
	Wall     int64                 `cbor:"5,keyasint"`
	LastSeq  uint64                `cbor:"6,keyasint"`
	LastHLC  uint64                `cbor:"7,keyasint"`
	Greatest [2]uint64             `cbor:"8,keyasint"`
	Params   protocol.PeerParams   `cbor:"9,keyasint"`
	Vector   []protocol.VectorItem `cbor:"10,keyasint"`
	Epochs   []epochBody           `cbor:"11,keyasint"`
	Deferred []Deferred            `cbor:"12,keyasint,omitempty"`
	Address  string                `cbor:"13,keyasint"`
	Rest     *Digest               `cbor:"14,keyasint,omitempty"` // absent: nothing
	Peers    []string              `cbor:"15,keyasint,omitempty"`
	Paused   bool                  `cbor:"16,keyasint,omitempty"`
	Volume   uint64                `cbor:"17,keyasint,omitempty"`
	Shut     bool                  `cbor:"18,keyasint,omitempty"`
}

type epochBody struct {
	Epoch  int64    `cbor:"1,keyasint"`
	Root   []byte   `cbor:"2,keyasint,omitempty"`
	Count  uint64   `cbor:"3,keyasint,omitempty"`
	Behind []uint64 `cbor:"4,keyasint"`
}

// EncodeHead returns the body of a head.
func EncodeHead(h *Head) []byte {
	b := headBody{
		NodeID: h.NodeID, Instance: h.Instance, Started: h.Started, Counter: h.Counter, Wall: h.Wall,
		LastSeq: h.Last.Seq, LastHLC: uint64(h.Last.HLC),
		Greatest: [2]uint64{uint64(h.Greatest.HLC), h.Greatest.Instance},
		Params:   h.Params, Vector: h.Vector, Deferred: h.Deferred, Address: h.Address,
		Peers: h.Peers, Paused: h.Paused, Volume: h.Volume, Shut: h.Shut,
	}
	if h.Rest.Count > 0 {
		b.Rest = &h.Rest
	}
	for _, e := range h.Epochs {
		behind := make([]uint64, 0, 2*len(h.Vector))
		for i, it := range h.Vector {
			m := e.Marks[i]
			behind = append(behind, it.Seq-m.Seq, it.HLC-uint64(m.HLC))
		}
		b.Epochs = append(b.Epochs, epochBody{Epoch: e.Epoch, Root: e.Root, Count: e.Count, Behind: behind})
	}
	return protocol.EncodeCBOR(&b)
}

// DecodeHead reads the body of a head. Its errors wrap ErrMalformed.
func DecodeHead(body []byte) (*Head, error) {
	var b headBody
	if err := protocol.DecodeCBOR(body, &b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if b.Instance == 0 || !address.IsNodeID(b.NodeID) || len(b.Address) > maxAddress {
		return nil, fmt.Errorf("%w: head without instance or node_id", ErrMalformed)
	}
	if len(b.Vector) > maxHeadItems || len(b.Epochs) > keptEpochs || len(b.Deferred) > maxHeadItems {
		return nil, fmt.Errorf("%w: head with too many items", ErrMalformed)
	}
	tooLong := func(address string) bool { return len(address) > maxAddress }
	if len(b.Peers) > maxHeadPeers || slices.ContainsFunc(b.Peers, tooLong) {
		return nil, fmt.Errorf("%w: head with too many or too long addresses", ErrMalformed)
	}
	if b.Rest != nil && b.Rest.Count == 0 {
		return nil, fmt.Errorf("%w: digest of nothing", ErrMalformed)
	}
	if err := b.checkSequences(); err != nil {
		return nil, err
	}
	sorted := slices.IsSortedFunc(b.Vector, func(x, y protocol.VectorItem) int {
		if x.Instance < y.Instance {
			return -1
		}
		return 1 // equal ones are out of order too
	})
	if !sorted {
		return nil, fmt.Errorf("%w: vector out of order", ErrMalformed)
	}
	h := &Head{
		NodeID: b.NodeID, Instance: b.Instance, Started: b.Started, Counter: b.Counter, Wall: b.Wall,
		Last:     vector.Mark{Seq: b.LastSeq, HLC: hlc.Timestamp(b.LastHLC)},
		Greatest: kv.Version{HLC: hlc.Timestamp(b.Greatest[0]), Instance: b.Greatest[1]},
		Params:   b.Params, Vector: b.Vector, Deferred: b.Deferred, Address: b.Address,
		Peers: b.Peers, Paused: b.Paused, Volume: b.Volume, Shut: b.Shut,
	}
	if b.Rest != nil {
		h.Rest = *b.Rest
	}
	if len(b.Peers) == 0 {
		h.Peers = nil // as where none are told
	}
	if len(b.Deferred) == 0 {
		h.Deferred = nil
	}
	for _, e := range b.Epochs {
		epoch, err := e.decode(b.Vector)
		if err != nil {
			return nil, err
		}
		h.Epochs = append(h.Epochs, epoch)
	}
	return h, nil
}

// checkSequences refuses sequences that no node can have reached.
func (b *headBody) checkSequences() error {
	if err := protocol.CheckVector(b.Vector); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	impossible := b.LastSeq > kv.MaxSeq
	for _, d := range b.Deferred {
		impossible = impossible || d.Seq > kv.MaxSeq
	}
	if impossible {
		return fmt.Errorf("%w: impossible sequence", ErrMalformed)
	}
	return nil
}

func (e *epochBody) decode(items []protocol.VectorItem) (EpochHead, error) {
	out := EpochHead{Epoch: e.Epoch, Root: e.Root, Count: e.Count}
	if len(e.Behind) != 2*len(items) || len(e.Root) > 64 {
		return out, fmt.Errorf("%w: epoch %d does not fit its vector", ErrMalformed, e.Epoch)
	}
	for i, it := range items {
		seq, clock := e.Behind[2*i], e.Behind[2*i+1]
		if seq > it.Seq || clock > it.HLC {
			return out, fmt.Errorf("%w: epoch %d is ahead of its vector", ErrMalformed, e.Epoch)
		}
		out.Marks = append(out.Marks, vector.Mark{Seq: it.Seq - seq, HLC: hlc.Timestamp(it.HLC - clock)})
	}
	return out, nil
}

// Presence is a node's retained message.
type Presence struct {
	Instance uint64 `cbor:"1,keyasint"`
	NodeID   string `cbor:"2,keyasint"`
	Address  string `cbor:"3,keyasint"`
	Version  string `cbor:"4,keyasint"`
	Started  int64  `cbor:"5,keyasint"` // Unix milliseconds
	Up       bool   `cbor:"6,keyasint"`
	At       int64  `cbor:"7,keyasint"` // the sender's clock when it was made, Unix milliseconds
	Volume   uint64 `cbor:"8,keyasint,omitempty"`
}

// DecodePresence reads the body of a presence. Its errors wrap ErrMalformed.
func DecodePresence(body []byte) (*Presence, error) {
	p := new(Presence)
	if err := protocol.DecodeCBOR(body, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if p.Instance == 0 || !address.IsNodeID(p.NodeID) || len(p.Address) > maxAddress {
		return nil, fmt.Errorf("%w: presence without instance or node_id", ErrMalformed)
	}
	return p, nil
}
