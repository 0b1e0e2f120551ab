package diskspace

import (
	"io"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// The ballast takes its blocks: a file with holes would be no reserve.
func TestTheBallastTakesBlocks(t *testing.T) {
	path := vfs.Default.PathJoin(t.TempDir(), ballastName)
	if err := (&ballast{vfs.Default, path}).make(3*mib+1, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.Default.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Size != 3*mib+1 || stat.Blocks*512 < 3*mib {
		t.Errorf("%d bytes in %d blocks", stat.Size, stat.Blocks)
	}
	first, second := make([]byte, mib), make([]byte, mib)
	if _, err := io.ReadFull(f, first); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(f, second); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(first, second) {
		t.Error("its chunks are alike: a file system may keep one of them")
	}
}
