package replication

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"merklekv/pkg/protocol"
)

const (
	relayWithin  = 3 * time.Second // how old a head may be that is passed on
	maxRelayAge  = time.Minute     // how old a relayed head may say that it is
	maxRelayed   = 1024            // heads in one frame
	maxRelaySize = 240 << 10       // bytes of them
)

// RelayedHead is the head of one node as another one passes it on.
type RelayedHead struct {
	Age  time.Duration // since its own node made it, as far as is known
	Head *Head
}

// relayBody is a relayed head on the wire; the frame is an array of them.
type relayBody struct {
	_    struct{} `cbor:",toarray"`
	Age  uint64   // milliseconds
	Head cbor.RawMessage
}

// DecodeRelay reads the payload of a relay frame. Its errors wrap ErrMalformed.
func DecodeRelay(payload []byte) ([]RelayedHead, error) {
	var list []relayBody
	if err := protocol.DecodeCBOR(payload, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(list) > maxRelayed {
		return nil, fmt.Errorf("%w: %d relayed heads", ErrMalformed, len(list))
	}
	heads := make([]RelayedHead, 0, len(list))
	for _, b := range list {
		h, err := DecodeHead(b.Head)
		if err != nil {
			return nil, err
		}
		if h.Counter == 0 || b.Age > uint64(maxRelayAge.Milliseconds()) {
			return nil, fmt.Errorf("%w: relayed head without counter or too old", ErrMalformed)
		}
		heads = append(heads, RelayedHead{Age: time.Duration(b.Age) * time.Millisecond, Head: h})
	}
	return heads, nil
}

// Relay returns the payload of a relay frame for a peer: the newest heads of other
// instances that were made within the last 3 s, as far as they have room, the
// youngest first; nil if there are none.
func (c *Core) Relay(to uint64) []byte {
	var list []relayBody
	size := 0
	for _, p := range c.byHeadAge() {
		if c.now-p.made > relayWithin || len(list) == maxRelayed {
			break
		}
		if p.instance == to {
			continue
		}
		body := EncodeHead(p.head)
		if size += len(body) + 16; size > maxRelaySize {
			break
		}
		list = append(list, relayBody{Age: uint64((c.now - p.made).Milliseconds()), Head: body})
	}
	if len(list) == 0 {
		return nil
	}
	return protocol.EncodeCBOR(list)
}

// byHeadAge returns the peers that have a head, the youngest head first.
func (c *Core) byHeadAge() []*peer {
	var all []*peer
	for _, p := range c.peers {
		if p.head != nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *peer) int {
		return cmp.Or(cmp.Compare(b.made, a.made), cmp.Compare(a.instance, b.instance))
	})
	return all
}

// OnRelay takes in heads that another node passed on. They tell what their nodes
// hold, and not that those can be reached.
func (c *Core) OnRelay(heads []RelayedHead) {
	for _, r := range heads {
		h := r.Head
		if h.Instance == c.set.Instance {
			continue
		}
		p := c.peer(h.Instance)
		if p == nil {
			c.met.dropped.WithLabelValues("peer").Inc()
			continue
		}
		if h.Counter <= p.counter {
			continue
		}
		c.met.headsRelayed.Inc()
		down := p.down
		p.noteHead(h, c.now-r.Age)
		p.down = down
		c.headTells(p)
	}
	c.step()
}

// headTells draws what follows from a new head, whichever way it came.
func (c *Core) headTells(p *peer) {
	h := p.head
	c.touch(h.Instance)
	c.compareRest(p)
	if h.Params != c.set.Params {
		c.once("params "+h.NodeID, "peer has other parameters and cannot be compared", "node_id", h.NodeID,
			"here", c.set.Params.String(), "there", h.Params.String())
	}
	c.AddHost(h.Address, false)
	for _, address := range h.Peers {
		if dialable(address) {
			c.AddHost(address, false)
		}
	}
	c.adoptFrom(p)
	c.assess()
}

// maxHeadPeers and maxAddress bound the addresses of others in a head.
const (
	maxHeadPeers = 256
	maxAddress   = 512 // bytes
	peersRoom    = 8 << 10
)

// peerAddresses returns where the live peers can be dialled, for a head.
func (c *Core) peerAddresses() []string {
	var list []string
	room := peersRoom
	for _, p := range c.livePeers() {
		if room -= len(p.address) + 3; room < 0 || len(list) == maxHeadPeers {
			break
		}
		if dialable(p.address) && !slices.Contains(list, p.address) {
			list = append(list, p.address)
		}
	}
	return list
}

// dialable reports whether an address is host:port.
func dialable(address string) bool {
	host, port, err := net.SplitHostPort(address)
	return err == nil && host != "" && port != "" && !bytes.ContainsAny([]byte(host), " \r\n")
}
