package diskspace

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ballastName is the name of the file in reserve, in the directory that is watched.
const ballastName = "ballast"

const ballastChunk = mib // written at once; between two of them it can be given up

// ballast is the file in reserve.
type ballast struct {
	fs   vfs.FS
	path string
}

// there reports whether the ballast has its size. What is left of one that was not
// finished, or has a size that the volume had before it grew, is removed.
func (b *ballast) there(size uint64) (bool, error) {
	info, err := b.fs.Stat(b.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for the ballast: %w", err)
	case size > 0 && uint64(info.Size()) == size:
		return true, nil
	}
	return false, b.remove()
}

// remove deletes the ballast. It is no error if there is none.
func (b *ballast) remove() error {
	if err := b.fs.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the ballast: %w", err)
	}
	return nil
}

var errGivenUp = errors.New("given up")

// make writes the ballast, so that its blocks are really taken, with content that
// no file system compresses. It is not synced: a crash may leave less of it, which
// there finds. With an error, or when wanted says no, nothing is left of it.
func (b *ballast) make(size uint64, wanted func() bool) (err error) {
	f, err := b.fs.Create(b.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("make the ballast: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			err = fmt.Errorf("make the ballast: %w", errors.Join(err, b.remove()))
		}
	}()
	noise := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, min(ballastChunk, size))
	for left := size; left > 0; left -= min(left, uint64(len(buf))) {
		if !wanted() {
			return errGivenUp
		}
		_, _ = noise.Read(buf) // has no errors
		if n, err := f.Write(buf[:min(left, uint64(len(buf)))]); err != nil {
			return err
		} else if uint64(n) < min(left, uint64(len(buf))) {
			return io.ErrShortWrite
		}
	}
	return nil
}
