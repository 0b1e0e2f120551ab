package antientropy

import (
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// sessionOut is what this side says in its turn: whole frames that wait, and
// those that are being filled.
type sessionOut struct {
	ready []outFrame

	children  []span // parts described by fingerprints
	lists     []list // ranges described by lists
	spanBytes int    // of the children's separators

	ranges    []byte
	nextRange int
	wants     []byte
	nextWant  int
	offers    [2]nameFrame // by kind: offerKey and offerTell
	requests  nameFrame
	push      entryFrame
	give      entryFrame
}

type outFrame struct {
	t       protocol.FrameType
	payload []byte
}

// nameFrame is a frame of names that is being filled.
type nameFrame struct {
	body []byte
	prev []byte // the last name
}

// entryFrame is a frame of entries that is being filled.
type entryFrame struct {
	body  []byte
	count int
}

// entriesHead is what the head of the entries in a frame takes at most, in bytes.
const entriesHead = 9

// seal puts a frame that was filled behind those that wait.
func (o *sessionOut) seal(t protocol.FrameType, body *[]byte) {
	if len(*body) > 0 {
		o.ready = append(o.ready, outFrame{t, *body})
		*body = nil
	}
}

func (o *sessionOut) sealNames(t protocol.FrameType, f *nameFrame) {
	o.seal(t, &f.body)
	f.prev = f.prev[:0]
}

func (o *sessionOut) sealEntries(t protocol.FrameType, f *entryFrame) {
	if f.count > 0 {
		payload := append(protocol.AppendEntriesHead(nil, f.count), f.body...)
		o.ready = append(o.ready, outFrame{t, payload})
	}
	*f = entryFrame{body: f.body[:0]}
	if cap(f.body) > 2*protocol.EntriesFrameSize {
		f.body = nil
	}
}

// flush puts all that was filled behind the frames that wait. Wants go before
// entries, so that the other side can take a key once for both.
func (o *sessionOut) flush() {
	o.seal(protocol.FrameRanges, &o.ranges)
	o.seal(protocol.FrameWants, &o.wants)
	for kind := range o.offers {
		o.sealNames(protocol.FrameOffers, &o.offers[kind])
	}
	o.sealNames(protocol.FrameRequests, &o.requests)
	o.sealEntries(protocol.FramePush, &o.push)
	o.sealEntries(protocol.FrameGive, &o.give)
}

// addEntries sends entries of one key.
func (o *sessionOut) addEntries(t protocol.FrameType, entries []kv.Entry) {
	f := &o.push
	if t == protocol.FrameGive {
		f = &o.give
	}
	for i := range entries {
		c := kv.Change{Origin: entries[i].Version.Instance, Entry: entries[i]}
		if f.count == protocol.MaxEntries || len(f.body)+protocol.ChangeSize(&c) > protocol.EntriesFrameSize-entriesHead {
			o.sealEntries(t, f)
		}
		f.body = protocol.AppendChange(f.body, &c, false)
		f.count++
	}
}

// addOffer shows a key's versions.
func (o *sessionOut) addOffer(kind byte, key []byte, facets []shown) {
	f := &o.offers[kind]
	item := appendOffer(nil, f.prev, key, facets)
	if len(f.body)+len(item) > protocol.SyncFrameSize {
		o.sealNames(protocol.FrameOffers, f)
	}
	if len(f.body) == 0 {
		f.body = append(f.body, kind)
		item = appendOffer(nil, nil, key, facets)
	}
	f.body, f.prev = append(f.body, item...), append(f.prev[:0], key...)
}

// addRequest asks for the entries of a key.
func (o *sessionOut) addRequest(key []byte) {
	f := &o.requests
	if len(f.body)+len(key)+8 > protocol.SyncFrameSize {
		o.sealNames(protocol.FrameRequests, f)
	}
	f.body = appendName(f.body, f.prev, key)
	f.prev = append(f.prev[:0], key...)
}
