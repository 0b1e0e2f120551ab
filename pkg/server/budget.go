package server

import (
	"sync"
	"sync/atomic"
)

const (
	// inputBudget is what input buffers beyond the usual size may take in all
	// connections together, and replyBudget what large answers may, in bytes.
	inputBudget = 64 << 20
	replyBudget = 64 << 20
)

// budget is memory that connections share, in bytes. A claim that does not fit
// waits in line. One claim at a time may go beyond the budget, so that claims
// that grow never wait for each other only, and none is too large for ever.
type budget struct {
	total int64

	mu    sync.Mutex
	used  int64
	over  *claim // the one beyond the budget
	queue []*waiter
}

// claim is what one connection has of a budget. Its connection alone changes it.
type claim struct{ bytes atomic.Int64 }

type waiter struct {
	claim   *claim
	n       int64
	granted chan struct{} // closed when it is
}

// try adds n bytes to the claim unless that means waiting.
func (b *budget) try(c *claim, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return (len(b.queue) == 0 || b.over == c) && b.grantLocked(c, n)
}

func (b *budget) grantLocked(c *claim, n int64) bool {
	if b.used+n > b.total {
		if b.over != nil && b.over != c {
			return false
		}
		b.over = c
	}
	b.used += n
	c.bytes.Add(n)
	return true
}

// wait adds n bytes to the claim when there is room. It returns false if one of
// the channels is closed before.
func (b *budget) wait(c *claim, n int64, late, killed, stopped <-chan struct{}) bool {
	if b.try(c, n) {
		return true
	}
	w := &waiter{claim: c, n: n, granted: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, w)
	b.wakeLocked()
	b.mu.Unlock()
	select {
	case <-w.granted:
		return true
	case <-late:
	case <-killed:
	case <-stopped:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.queue {
		if other == w {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			break
		}
	}
	b.wakeLocked()
	return false // if it was granted meanwhile, release gives it back
}

// resize makes the claim n bytes without waiting.
func (b *budget) resize(c *claim, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n - c.bytes.Swap(n)
	if b.over == c && (n == 0 || b.used <= b.total) {
		b.over = nil
	}
	b.wakeLocked()
}

// release ends the claim.
func (b *budget) release(c *claim) {
	if c.bytes.Load() != 0 {
		b.resize(c, 0)
	}
}

func (b *budget) wakeLocked() {
	for len(b.queue) > 0 && b.grantLocked(b.queue[0].claim, b.queue[0].n) {
		close(b.queue[0].granted)
		b.queue = b.queue[1:]
	}
}

// contended reports whether claims are waiting.
func (b *budget) contended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) > 0
}
