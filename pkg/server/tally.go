package server

import (
	"math/bits"

	"merklekv/pkg/protocol"
)

// The set of a tally's commands is one word.
const _ = uint(64 - protocol.NumCommands)

// tally counts what one session executed since it was last moved to the
// server's metrics: plain numbers, so that a request costs no atomic operation.
type tally struct {
	requests [protocol.NumCommands]uint32
	errors   [protocol.NumCommands]uint32
	used     uint64 // bit i: requests[i] is not 0
	total    uint64
	last     protocol.ID
}

func (t *tally) count(id protocol.ID, failed bool) {
	t.requests[id]++
	t.used |= 1 << id
	t.total++
	t.last = id
	if failed {
		t.errors[id]++
	}
}

// moveTo adds the tally to m and empties it.
func (t *tally) moveTo(m *metrics) {
	for t.used != 0 {
		id := bits.TrailingZeros64(t.used)
		t.used &= t.used - 1
		m.requests[id].Add(uint64(t.requests[id]))
		t.requests[id] = 0
		if t.errors[id] != 0 {
			m.errors[id].Add(uint64(t.errors[id]))
			t.errors[id] = 0
		}
	}
	t.total = 0
}
