//go:build !race

package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapMemory returns size zeroed bytes outside the Go heap, so that the garbage
// collector neither sees nor doubles them. size is a multiple of the page size.
func mapMemory(size int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of memory: %w", size, err)
	}
	return mem, nil
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(mem []byte) {
	// The only error is a range that was never mapped, which is a bug here.
	if err := unix.Munmap(mem); err != nil {
		panic(fmt.Sprintf("store: unmap %d bytes: %v", len(mem), err))
	}
}

// discardMemory lets the system take the pages of a part of a mapping; they read
// as zero afterwards. It is advice: where it is refused nothing changes.
func discardMemory(mem []byte) { _ = unix.Madvise(mem, unix.MADV_DONTNEED) }
