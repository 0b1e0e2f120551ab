package disk

import (
	"time"

	"github.com/cockroachdb/pebble/v2"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// group is what becomes durable by one sync: what was appended while the group
// before it was on its way to the disk.
type group struct {
	batch  *pebble.Batch
	script []byte         // its entries, one after the other
	count  int            // of them
	last   journal.Ticket // greatest one in it
	runs   []run          // places in sequences, in their order
	number uint64         // counts groups over the journal's life; set when it is committed
	begun  time.Time      // when that was
	done   chan struct{}  // closed when it is durable, or never will be
	err    error          // why it never will; set before done is closed
}

// run is a row of changes of one origin, or one that is vouched for: then all up
// to high was received.
type run struct {
	origin, low, high uint64
	stamp             hlc.Timestamp // of high
	vouched           bool
}

// groupBytes is how large a group grows before the next one is begun. Pebble
// handles batches of half its memory table in another way, which is slower.
const groupBytes = 4 << 20

func newGroup(db *pebble.DB) *group {
	return &group{batch: db.NewBatch(), done: make(chan struct{})}
}

func (g *group) isEmpty() bool { return g.last == 0 }
func (g *group) isFull() bool  { return len(g.script) >= groupBytes }

// add appends an entry.
func (g *group) add(e *kv.Entry) {
	g.script = appendLine(g.script, e)
	g.count++
}

// note takes down that a change was received.
func (g *group) note(origin, seq uint64, stamp hlc.Timestamp) {
	if n := len(g.runs); n > 0 {
		if last := &g.runs[n-1]; last.origin == origin && last.high+1 == seq && !last.vouched {
			last.high, last.stamp = seq, stamp
			return
		}
	}
	g.runs = append(g.runs, run{origin: origin, low: seq, high: seq, stamp: stamp})
}

func (g *group) vouch(m journal.Mark) {
	g.runs = append(g.runs, run{origin: m.Origin, high: m.Seq, stamp: m.Stamp, vouched: true})
}

// seal adds to the batch what belongs to the group as a whole: the items of the
// vector that it moves, its number, and a trailer by which it is found in the
// log's raw bytes. mark is the journal's, synced the number of the last group known
// to be on the disk.
func (g *group) seal(moved []journal.Mark, mark, synced uint64) error {
	if len(g.script) > 0 {
		op := g.batch.SetDeferred(scriptKeyLen, len(g.script))
		putScriptKey(op.Key, g.number)
		copy(op.Value, g.script)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	for _, m := range moved {
		op := g.batch.SetDeferred(originLen, vectorLen)
		putVectorKey(op.Key, m.Origin)
		putVectorValue(op.Value, m)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	op := g.batch.SetDeferred(1, 8)
	op.Key[0] = kindGroup
	be.PutUint64(op.Value, g.number)
	if err := op.Finish(); err != nil {
		return err
	}
	return g.batch.LogData(trailer{mark, g.number, synced}.append(nil), nil)
}
