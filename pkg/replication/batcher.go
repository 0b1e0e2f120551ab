package replication

import (
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// Batcher makes batches of own changes from a replica's log. It is for one
// goroutine.
type Batcher struct {
	rep   Replica
	pos   uint64 // in the log
	batch batchBuilder
}

// NewBatcher returns a Batcher that begins at a position in the log.
func NewBatcher(rep Replica, pos uint64) *Batcher { return &Batcher{rep: rep, pos: pos} }

// Pos returns the position in the log up to which batches were made.
func (b *Batcher) Pos() uint64 { return b.pos }

// Skip passes over all that is in the log.
func (b *Batcher) Skip() { b.pos = b.rep.LogHead() }

// Next returns the body of the next batch, for Codec.Seal with KindBatch, and of
// how many changes it is; 0 if there are no more. The body is not used again.
func (b *Batcher) Next() (body []byte, changes int) {
	if changes = b.collect(); changes == 0 {
		return nil, 0
	}
	return b.batch.body(), changes
}

// collect gathers the next batch of own changes and returns how many they are.
func (b *Batcher) collect() int {
	own := b.rep.Instance()
	for {
		full := false
		next, _ := b.rep.ReadLog(b.pos, 8192, func(c *kv.Change) bool {
			if c.Origin != own || c.Seq == 0 {
				return true
			}
			full = !b.batch.add(c)
			return !full
		})
		if full {
			next-- // it opens the next batch
		}
		if next == b.pos || full {
			b.pos = next
			return b.batch.count
		}
		b.pos = next
	}
}

// batchRoom is what a batch's body needs besides its entries, in bytes.
const batchRoom = 32

// batchBuilder gathers consecutive own changes.
type batchBuilder struct {
	first   uint64
	count   int
	entries []byte
}

// add takes a change in and reports false if it belongs into the next batch:
// because this one is full, or because the change does not follow.
func (b *batchBuilder) add(c *kv.Change) bool {
	if b.count > 0 && (c.Seq != b.first+uint64(b.count) || b.count == protocol.MaxEntries) {
		return false
	}
	size := protocol.ChangeSize(c)
	stub := size > MaxBody-batchRoom
	if stub {
		size = 1
	}
	if len(b.entries)+size > MaxBody-batchRoom {
		return false
	}
	if b.count == 0 {
		b.first = c.Seq
	}
	b.count++
	if stub {
		b.entries = protocol.AppendStub(b.entries)
	} else {
		b.entries = protocol.AppendChange(b.entries, c, true)
	}
	return true
}

// body returns the body of the batch and makes the builder empty.
func (b *batchBuilder) body() []byte {
	raw := protocol.AppendEntriesHead(make([]byte, 0, len(b.entries)+9), b.count)
	raw = append(raw, b.entries...)
	body := protocol.EncodeCBOR(&batchBody{First: b.first, Entries: raw})
	b.count, b.entries = 0, b.entries[:0]
	return body
}
