// Package poll lets a test wait for a condition instead of sleeping.
package poll

import (
	"fmt"
	"testing"
	"time"
)

// interval is how often the condition is looked at.
const interval = 2 * time.Millisecond

// Until returns once cond holds, and fails the test when it does not within the
// timeout; msg then says what was waited for, as in fmt.Sprint.
func Until(t testing.TB, timeout time.Duration, cond func() bool, msg ...any) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", timeout, fmt.Sprint(msg...))
		case <-tick.C:
		}
	}
}
