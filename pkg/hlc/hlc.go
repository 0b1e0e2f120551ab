// Package hlc is the hybrid logical clock that stamps every write.
//
// A Timestamp packs 48 bits of Unix milliseconds above a 16-bit counter into
// one uint64, so that comparing timestamps is comparing integers. The counter
// carries into the milliseconds: a clock asked for more than 65,536 stamps in
// one millisecond runs ahead of the wall clock instead of repeating itself.
//
// The scheme is that of Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical
// Physical Clocks" (OPODIS 2014), with the two parts folded into one integer.
//
// A Clock never goes back and never blocks. It knows no wall clock of its own:
// the physical clock is passed in, which is what lets a simulation run it.
package hlc

import (
	"fmt"
	"time"
)

// counterBits is how much of a Timestamp counts stamps within a millisecond.
const counterBits = 16

// Timestamp is one instant of a hybrid logical clock: Unix milliseconds in the
// upper 48 bits, a counter in the lower 16. The zero Timestamp is before all
// others and never issued.
type Timestamp uint64

// maxMillis is the last millisecond that a Timestamp can express.
const maxMillis = int64(1)<<48 - 1

// At returns the Timestamp of the first stamp of a millisecond of Unix time. What
// lies outside [0, 2^48) becomes the nearest that lies in it.
func At(millis int64) Timestamp {
	return Timestamp(min(max(millis, 0), maxMillis)) << counterBits
}

// Millis returns the Unix milliseconds of t.
func (t Timestamp) Millis() int64 { return int64(t >> counterBits) }

// Counter returns how many stamps of the same millisecond came before t.
func (t Timestamp) Counter() uint16 { return uint16(t) }

// Epoch returns the one-second epoch that t belongs to: floor(milliseconds /
// 1000). It is a property of the stamp and therefore the same on every node.
func (t Timestamp) Epoch() int64 { return t.Millis() / MillisPerEpoch }

// LastOf returns the last Timestamp of an epoch.
func LastOf(epoch int64) Timestamp { return At((epoch+1)*MillisPerEpoch) - 1 }

// MillisPerEpoch is the length of an epoch. It is part of the format: nodes
// that differ in it cannot compare their roots.
const MillisPerEpoch = 1000

// String formats t as RFC 3339 with milliseconds, a plus sign and the counter.
func (t Timestamp) String() string {
	return fmt.Sprintf("%s+%d", time.UnixMilli(t.Millis()).UTC().Format("2006-01-02T15:04:05.000Z"), t.Counter())
}
