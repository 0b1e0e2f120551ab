package disk

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/diskspace"
)

// fitted makes tables smaller on a small volume: those in memory, with the log of
// each, must find space when the volume already counts as full.
func fitted(o *pebble.Options, fsys vfs.FS, dir string) *pebble.Options {
	usage, err := fsys.GetDiskUsage(fsys.PathDir(dir)) // dir may not be there yet
	if err != nil {
		return o // where nobody can tell, the volume never counts as full
	}
	o.MemTableSize = diskspace.Buffers(usage.TotalBytes, o.MemTableSize)
	o.LBaseMaxBytes = min(o.LBaseMaxBytes, 2*int64(o.MemTableSize))
	return o
}
