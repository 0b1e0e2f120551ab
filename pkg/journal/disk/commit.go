package disk

import (
	"time"

	"github.com/cockroachdb/pebble/v2"

	"merklekv/pkg/journal"
	"merklekv/pkg/vector"
)

// commitAll hands one group after the other to Pebble, until the journal is
// closed and all are handed over, or it has failed.
func (j *Journal) commitAll() {
	defer close(j.flight)
	timer := time.NewTimer(lazyDelay)
	defer timer.Stop()
	ripe := false // what nobody waits for was gathered for long enough
	for {
		g, state := j.take(ripe)
		ripe = false
		switch state {
		case groupDue:
			if err := j.commit(g); err != nil {
				j.fail(err)
				return
			}
			j.flight <- g
		case groupGathers:
			timer.Reset(lazyDelay)
			select {
			case <-j.wake:
			case <-timer.C:
				ripe = true
			}
		case groupNone:
			<-j.wake
		case groupNever:
			j.tellFailure()
			return
		}
	}
}

// groupState says what there is to do for the committer.
type groupState uint8

const (
	groupNone    groupState = iota // nothing was appended
	groupGathers                   // something was, for which nobody waits
	groupDue
	groupNever // the journal is closed or has failed
)

// take returns the next group, if it is due, and sees to it that another one is
// pending.
func (j *Journal) take(ripe bool) (*group, groupState) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure != nil {
		return nil, groupNever
	}
	for i, g := range j.queue {
		pending := i == len(j.queue)-1
		switch {
		case g.number != 0: // on its way
			continue
		case pending && g.isEmpty() && j.ending:
			return nil, groupNever
		case pending && g.isEmpty():
			return nil, groupNone
		case pending && !j.urgent && !ripe && !j.ending:
			return nil, groupGathers
		case pending:
			j.queue = append(j.queue, newGroup(j.db))
			j.urgent = false
		}
		j.number++
		g.number, g.begun = j.number, time.Now()
		return g, groupDue
	}
	return nil, groupNever // not reached: one is always pending
}

// commit writes a group to the log and applies it. When it returns, the sync is on
// its way.
func (j *Journal) commit(g *group) error {
	j.awaitSettler()
	if err := g.seal(j.moved(g.runs), j.mark, j.synced.Load()); err != nil {
		return err
	}
	j.met.groups.Inc()
	j.met.records.Add(float64(g.count))
	j.met.bytes.Add(float64(g.batch.Len()))
	if err := j.db.ApplyNoSyncWait(g.batch, pebble.Sync); err != nil {
		return err
	}
	j.noteUnsettled(len(g.script))
	return nil
}

// moved enters what was received into the vector and returns the items that
// changed.
func (j *Journal) moved(runs []run) []journal.Mark {
	before := make(map[uint64]vector.Mark)
	for i := range runs {
		r := &runs[i]
		if _, seen := before[r.origin]; !seen {
			before[r.origin] = j.vec.Prefix(r.origin)
		}
		j.receive(r)
	}
	var moved []journal.Mark
	for origin, was := range before {
		if now := j.vec.Prefix(origin); now != was {
			moved = append(moved, journal.Mark{Origin: origin, Seq: now.Seq, Stamp: now.HLC})
		}
	}
	return moved
}

// receive enters one run. Runs have no gaps within, so a prefix that reaches
// their beginning reaches their end.
func (j *Journal) receive(r *run) {
	if r.vouched || r.low <= j.vec.Prefix(r.origin).Seq+1 {
		j.vec.Adopt(r.origin, vector.Mark{Seq: r.high, HLC: r.stamp})
		return
	}
	for seq := r.low; seq <= r.high; seq++ {
		j.vec.Add(r.origin, seq, r.stamp)
	}
}

// syncAll waits for the log to have each group and wakes those who wait for it.
func (j *Journal) syncAll() {
	for g := range j.flight {
		start := time.Now()
		err := g.batch.SyncWait()
		if err != nil {
			j.fail(err)
			continue
		}
		j.met.wait.Observe(time.Since(start).Seconds())
		j.written.Store(g.number)
		if j.lazy == nil {
			j.synced.Store(g.number)
		}
		j.finish(g)
		_ = g.batch.Close() // gives its memory back; there is nothing to fail
	}
}

// finish makes a group's tickets durable.
func (j *Journal) finish(g *group) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure != nil {
		return
	}
	j.queue = append(j.queue[:0], j.queue[1:]...)
	j.durable.Store(uint64(g.last))
	close(g.done)
}

// syncRegularly forces the log to the disk each second.
func (j *Journal) syncRegularly() {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-tick.C:
			if j.force() != nil {
				return
			}
		}
	}
}
