package mqttlink

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boundUnacknowledged makes the kernel drop a connection when what was sent stays
// unacknowledged for d.
func boundUnacknowledged(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		if err != nil {
			return err
		}
		return failed
	}
}
