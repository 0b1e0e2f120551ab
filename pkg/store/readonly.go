package store

import (
	"slices"
	"sync"
	"sync/atomic"

	"merklekv/pkg/kv"
)

// readOnly is why clients may not write at present. Each write asks, so that it
// costs one load.
type readOnly struct {
	told atomic.Pointer[kv.ReadOnlyError] // nil when writes are taken

	mu      sync.Mutex
	reasons []reason // in the order in which they came up
}

// reason is what one part of the node has against writes.
type reason struct{ source, why string }

// set changes what a source has against writes; "" is nothing.
func (r *readOnly) set(source, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.reasons, func(x reason) bool { return x.source == source })
	switch {
	case why == "" && i < 0:
		return
	case why == "":
		r.reasons = slices.Delete(r.reasons, i, i+1)
	case i < 0:
		r.reasons = append(r.reasons, reason{source, why})
	default:
		r.reasons[i].why = why
	}
	if len(r.reasons) == 0 {
		r.told.Store(nil)
		return
	}
	r.told.Store(&kv.ReadOnlyError{Why: r.reasons[0].why})
}

// err returns why no client may write, nil if clients may.
func (r *readOnly) err() error {
	if told := r.told.Load(); told != nil {
		return told
	}
	return nil
}
