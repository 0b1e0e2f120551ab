//go:build !linux || race

package store

// This is for systems without anonymous mappings, and for the race detector, which
// watches the Go heap only.

// mapMemory returns size zeroed bytes, here from the Go heap.
func mapMemory(size int) ([]byte, error) { return make([]byte, size), nil }

// unmapMemory leaves the memory to the garbage collector.
func unmapMemory([]byte) {}

// discardMemory keeps the pages.
func discardMemory([]byte) {}
