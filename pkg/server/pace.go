package server

import "time"

const (
	// stallPart is the part of the connection timeout after which a connection
	// that moves nothing loses memory that others wait for.
	stallPart = 6
	// leastPace and pacePart say what counts as movement in that time: so many
	// bytes, and such a part of the memory that is held.
	leastPace = 4 << 10
	pacePart  = 64
)

// pace is when a connection last made progress. It belongs to the sweeper.
type pace struct {
	bytes uint64
	at    time.Duration
}

// stalled reports whether the connection keeps memory that others wait for, and
// its client has not moved it on for the given time.
func (c *conn) stalled(now, most time.Duration, input, replies bool) bool {
	held, p := c.input.bytes.Load(), moment(c.moment.Load()).phase()
	wanted := input && held > 0
	if n := c.session.claim.bytes.Load(); n > 0 {
		held, wanted = held+n, wanted || replies
	}
	moved := c.bytesIn.Load() + c.bytesOut.Load()
	enough := moved-c.pace.bytes >= uint64(max(leastPace, held/pacePart))
	if held == 0 || enough || p != phaseReceiving && p != phaseWriting {
		c.pace = pace{moved, now}
		return false
	}
	return wanted && now-c.pace.at >= most
}
