package disk

import (
	"errors"
	"fmt"
	"time"
)

const (
	flushLimit = 5 * time.Second  // for writing the last table when the journal is closed
	closeLimit = 15 * time.Second // for all of Close, on a disk that does not answer
)

// errNoAnswer is why a journal is given up that cannot be closed.
var errNoAnswer = errors.New("it does not answer")

// Close is part of journal.Journal. On a disk that does not answer it gives up after
// 15 s, with an error that wraps ErrFailed.
func (j *Journal) Close() error {
	first := false
	j.closing.Do(func() {
		first = true
		j.mu.Lock()
		j.ending = true
		j.pokeLocked()
		j.mu.Unlock()
		close(j.stop)
		j.closed = j.close()
	})
	if !first {
		return nil
	}
	return j.closed
}

func (j *Journal) close() error {
	watchdog := time.AfterFunc(j.closeAfter, func() { j.fail(errNoAnswer) })
	defer watchdog.Stop()
	// In a journal that fails they may wait for Pebble for ever.
	_ = j.unlessFailed(func() error { j.working.Wait(); return nil })
	j.met.close()
	if err := j.failed(); err != nil {
		// Pebble may hold its locks for ever. The process is about to end.
		return err
	}
	if err := j.unlessFailed(func() error { j.settleRest(); return nil }); err != nil {
		return err
	}
	j.flush()
	if err := j.unlessFailed(j.db.Close); err != nil {
		return fmt.Errorf("close journal: %w", damage(err))
	}
	return nil
}

// flush writes what is only in the log as a table, so that the next start is a
// quick one. On a disk that is full it gives up: the log has it all.
func (j *Journal) flush() {
	var done <-chan struct{}
	err := j.unlessFailed(func() (err error) { done, err = j.db.AsyncFlush(); return err })
	if err != nil {
		j.log.Warn("the last changes stay in the log", "err", err)
		return
	}
	select {
	case <-done:
	case <-j.broken:
	case <-time.After(flushLimit):
		j.log.Warn("the last changes stay in the log", "waited", flushLimit.String())
	}
}

// failed returns why nothing becomes durable any more, nil if it does.
func (j *Journal) failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
}

// fail ends the journal: nothing that is not durable by now ever is.
func (j *Journal) fail(err error) {
	j.mu.Lock()
	j.failLocked(err)
	j.mu.Unlock()
	j.tellFailure()
}

// tellFailure tells of a failure, unless it was told already.
func (j *Journal) tellFailure() {
	j.mu.Lock()
	failure, tell := j.failure, j.tell
	if failure != nil {
		j.tell = nil
	}
	j.mu.Unlock()
	if failure != nil && tell != nil {
		j.log.Error("nothing is durable any more", "err", failure)
		tell(failure)
	}
}

func (j *Journal) failLocked(err error) {
	if j.failure != nil {
		return
	}
	j.failure = fmt.Errorf("%w: %w", ErrFailed, err)
	for _, g := range j.queue {
		g.err = j.failure
		close(g.done)
	}
	j.queue = nil
	close(j.broken)
	j.pokeLocked()
}
