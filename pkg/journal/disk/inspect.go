package disk

import "github.com/cockroachdb/pebble/v2/vfs"

// inspect looks at a journal's files before Pebble does, for damage that Pebble
// takes for the end of what was written. It returns the number of the last group
// that the log says was on the disk.
func inspect(fs vfs.FS, dir string) (synced uint64, err error) { return 0, nil }
