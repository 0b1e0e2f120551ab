package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/hlc"
)

// The file clock: magic, the bound (little endian), CRC-32C of the 16 bytes before.
const (
	clockMagic = "mkvclock"
	clockLen   = len(clockMagic) + 8 + 4
)

func encodeBound(t hlc.Timestamp) []byte {
	data := binary.LittleEndian.AppendUint64([]byte(clockMagic), uint64(t))
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
}

// decodeBound reads the content of a file clock. It reports false for what
// encodeBound has not written.
func decodeBound(data []byte) (hlc.Timestamp, bool) {
	if len(data) != clockLen {
		return 0, false
	}
	t := hlc.Timestamp(binary.LittleEndian.Uint64(data[len(clockMagic):]))
	return t, string(data) == string(encodeBound(t))
}

// readBound returns the bound that a directory holds. There is none before the first
// reservation; found says so.
func readBound(fsys vfs.FS, dir string) (t hlc.Timestamp, found bool, err error) {
	path := fsys.PathJoin(dir, clockName)
	data, err := read(fsys, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	t, ok := decodeBound(data)
	if !ok {
		return 0, false, fmt.Errorf("%w: %s: its checksum is not that of its content; if this machine's clock is right, "+
			"remove the file: the node then stamps from the present on, above all that its journal holds", ErrDamaged, path)
	}
	return t, true, nil
}
