package disk

import "time"

// SettlingAt returns options of a journal that settles as often as after so many
// bytes.
func (o Options) SettlingAt(bytes int) Options {
	o.settleAt = bytes
	return o
}

// Backlog shows tests how many bytes wait for the settler.
func (j *Journal) Backlog() int64 { return j.backlog.Load() }

// CloseWithin makes Close give up after a time.
func (j *Journal) CloseWithin(d time.Duration) { j.closeAfter = d }
