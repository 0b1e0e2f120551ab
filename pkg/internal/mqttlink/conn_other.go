//go:build !linux

package mqttlink

import (
	"syscall"
	"time"
)

// boundUnacknowledged needs a socket option that only Linux has.
func boundUnacknowledged(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}
