package backup

import "merklekv/pkg/kv"

// Progress is told how much of the work is done, in bytes that are read; of the
// entries' share both numbers are estimates. It is called often, from one goroutine
// at a time, and must not block.
type Progress func(done, total int64)

// meter tells of work that consists of several readings of the same bytes.
type meter struct {
	tell  Progress
	bytes int64 // of one reading
	total int64
	base  int64 // done before the present reading
	done  int64
}

func newMeter(tell Progress, bytes int64, readings int) *meter {
	if tell == nil {
		tell = func(int64, int64) {}
	}
	m := &meter{tell: tell, bytes: bytes, total: bytes * int64(readings)}
	tell(0, m.total)
	return m
}

// read adds bytes that were read.
func (m *meter) read(n int64) {
	m.done = min(m.done+n, m.base+m.bytes)
	m.tell(m.done, m.total)
}

// entries returns a function to call for every entry of a reading of about so
// many.
func (m *meter) entries(expected int64) func(*kv.Entry) {
	const step = 1 << 12 // entries between two calls
	seen := int64(0)
	return func(*kv.Entry) {
		if seen++; seen%step == 0 && expected > 0 {
			share := float64(min(seen, expected)) / float64(expected)
			m.done = m.base + int64(share*float64(m.bytes))
			m.tell(m.done, m.total)
		}
	}
}

// finish ends one reading.
func (m *meter) finish() {
	m.base += m.bytes
	m.done = m.base
	m.tell(m.done, m.total)
}
