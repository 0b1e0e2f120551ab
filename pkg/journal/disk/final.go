package disk

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// finalFile is a file whose failures are final: one of the log, or a directory.
// Pebble panics over some of them, with locks held and where nobody can catch it,
// which would end the process with a stack instead of a reason. So the journal has
// failed then, and whoever met it goes no further, as with Pebble's Fatalf.
type finalFile struct {
	vfs.File
	halt func(error)
}

// halt declares the journal failed and does not return.
func (s sealFS) halt(err error) {
	s.fail(err)
	select {}
}

// final returns the file that was opened, or does not return.
func (s sealFS) final(f vfs.File, err error) vfs.File {
	if err != nil {
		s.halt(fmt.Errorf("begin a log: %w", err))
	}
	return &finalFile{File: f, halt: s.halt}
}

func (f *finalFile) must(err error) {
	if err != nil {
		f.halt(err)
	}
}

func (f *finalFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.must(err)
	return n, nil
}

func (f *finalFile) Sync() error {
	f.must(f.File.Sync())
	return nil
}

func (f *finalFile) SyncData() error {
	f.must(f.File.SyncData())
	return nil
}

func (f *finalFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	f.must(err)
	return fullSync, nil
}

func (f *finalFile) Close() error {
	f.must(f.File.Close())
	return nil
}
