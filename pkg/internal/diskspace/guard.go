// Package diskspace keeps a node from filling its disk: it says early when to take
// no more, and keeps a file in reserve whose space is given back when others have
// filled the disk all the same.
//
//	free space
//	  ...      writes are taken; the ballast lies there
//	  Clear    a disk that was full is not any more
//	  Low      below it the disk counts as full
//	  Low/4    below it the ballast goes
//	  0        a storage engine that gets here cannot go on
//
// What lies below Low is for what is in flight: memory tables that the engine has
// still to write, its log, a compaction, and what is written between two looks.
// [MarksOf] has the figures, [Guard] the decisions, [Watcher] looks and acts.
package diskspace

import "time"

const (
	mib = 1 << 20

	mostLow     = 512 * mib
	leastLow    = 16 * mib
	mostGap     = 64 * mib // between Low and Clear
	mostBallast = 16 * mib
)

// Space is what a volume has, in bytes. A Total of 0 means that nothing is known.
type Space struct {
	Free  uint64 // that this process may fill
	Total uint64
}

// Marks are the figures of a volume, in bytes.
type Marks struct {
	Low     uint64 // with less free space the volume is full
	Clear   uint64 // a full one that has more is not full any more
	Ballast uint64 // size of the file in reserve
}

// MarksOf returns the marks of a volume of a size: a quarter of it for what is in
// flight, at least 16 and at most 512 MiB. A volume of less than 16 MiB is always
// full.
func MarksOf(total uint64) Marks {
	low := min(mostLow, max(total/4, leastLow))
	return Marks{Low: low, Clear: low + min(low/2, mostGap), Ballast: min(total/16, mostBallast)}
}

// Buffers returns how many bytes one of a storage engine's memory tables may have on
// a volume of a size, at most as many as wanted: eight of them, with the log of each,
// fit into what is in reserve.
func Buffers(total, wanted uint64) uint64 {
	if total == 0 {
		return wanted
	}
	return min(wanted, MarksOf(total).Low/16)
}

// Looks are far apart while there is space, and close together where a disk could
// be filled meanwhile: 250 ms at 400 MB/s are less than Low of a large volume, 50 ms
// at 300 MB/s less than that of the smallest.
const (
	farLook  = 250 * time.Millisecond
	nearLook = 50 * time.Millisecond
)

// nextLook returns when to look again.
func (m Marks) nextLook(free uint64) time.Duration {
	if free < 2*m.Low {
		return nearLook
	}
	return farLook
}

// Order is what to do with the ballast.
type Order uint8

const (
	Keep   Order = iota // leave it there, or away
	Remove              // delete it at the start: the disk is nearly full
	Make                // write it
)

// Decision is what follows from a look at the volume.
type Decision struct {
	Full    bool // take nothing more
	Ballast Order
}

// Guard decides when a volume is full, and when it has space again. The zero Guard
// is ready for use; it knows neither clock nor files.
type Guard struct{ full bool }

// Look takes in what a volume has now, and whether the ballast is there.
func (g *Guard) Look(s Space, ballast bool) Decision {
	if s.Total == 0 {
		g.full = false
		return Decision{}
	}
	m := MarksOf(s.Total)
	switch {
	case s.Free < m.Low:
		g.full = true
	case s.Free > m.Clear:
		g.full = false
	}
	d := Decision{Full: g.full}
	switch {
	case ballast && s.Free < m.Low/4:
		d.Ballast = Remove
	case !ballast && !g.full && m.Ballast > 0 && s.Free > m.Clear+m.Ballast:
		d.Ballast = Make // and there is still more than Clear
	}
	return d
}

// Exhausted takes in that a write found no space, whatever looks say. The volume is
// full until a look finds more than Clear.
func (g *Guard) Exhausted() { g.full = true }
