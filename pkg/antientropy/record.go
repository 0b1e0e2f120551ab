package antientropy

import (
	"sync"
	"time"
)

// Record is what is remembered of one session: with whom, why, and its price.
type Record struct {
	Number   uint64 // counts the sessions of this start
	At       time.Time
	NodeID   string
	Instance uint64
	Address  string // that was dialled; empty where the peer dialled
	Why      string
	Took     time.Duration
	// LinkIn and LinkOut are all bytes of frames on the link, the handshake and
	// heads included; the result counts the session's alone.
	LinkIn, LinkOut int64
	Error           string // why it broke off; empty if it did not
	Result          Result
}

// Outcome returns how the session ended, in one word.
func (r *Record) Outcome() string {
	switch {
	case r.Error != "":
		return "failed"
	case r.Result.Equal:
		return "equal"
	case r.Result.Success:
		return "repaired"
	}
	return "unequal"
}

// keptRecords is how many sessions are remembered.
const keptRecords = 100

// records are the last sessions.
type records struct {
	mu   sync.Mutex
	last []Record // oldest first
	n    uint64
}

func (r *records) add(rec Record) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	rec.Number = r.n
	if len(r.last) == keptRecords {
		copy(r.last, r.last[1:])
		r.last = r.last[:keptRecords-1]
	}
	r.last = append(r.last, rec)
	return rec
}

// newest returns up to n records, newest first; all for n <= 0.
func (r *records) newest(n int) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= 0 || n > len(r.last) {
		n = len(r.last)
	}
	list := make([]Record, 0, n)
	for i := range n {
		list = append(list, r.last[len(r.last)-1-i])
	}
	return list
}
