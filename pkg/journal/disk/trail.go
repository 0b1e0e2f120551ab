package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// A trailer ends each group in the log and is nowhere else. It is 28 bytes, numbers
// big endian:
//
//	mark     8  random number of the journal, from its seal
//	number   8  of the group
//	synced   8  number of the last group known to be on the disk when this one was made
//	CRC-32C  4  of the bytes before
//
// By the mark it is found in the log's raw bytes, where chunks cannot be read any
// more. No client can write one as a value, for no client knows the mark.
type trailer struct{ mark, number, synced uint64 }

const trailerLen = 28

func (t trailer) append(dst []byte) []byte {
	start := len(dst)
	dst = be.AppendUint64(dst, t.mark)
	dst = be.AppendUint64(dst, t.number)
	dst = be.AppendUint64(dst, t.synced)
	return be.AppendUint32(dst, checksum(dst[start:]))
}

// readTrailer reads a trailer that bears the mark at the beginning of b.
func readTrailer(b []byte, mark uint64) (t trailer, ok bool) {
	if len(b) < trailerLen || be.Uint64(b) != mark || checksum(b[:trailerLen-4]) != be.Uint32(b[trailerLen-4:]) {
		return t, false
	}
	return trailer{mark: mark, number: be.Uint64(b[8:]), synced: be.Uint64(b[16:])}, true
}

// trail is what one log tells of groups.
type trail struct {
	path        string
	first, last uint64 // of the groups that can be read, which follow each other; 0 if there are none
	end         int64  // where the last record that can be read ends
	clean       bool   // the log ends as one does that was closed
	err         error  // Pebble itself calls the log damaged
	synced      uint64 // greatest that any trailer in it speaks of
}

// gapAfter reports whether there are groups and they do not begin right after the
// last one before.
func (t *trail) gapAfter(before uint64) bool {
	return t.first != 0 && before != 0 && t.first != before+1
}

// claim returns the number of the last group of which any log says that it was on
// the disk.
func claim(trails []trail) (synced uint64) {
	for i := range trails {
		synced = max(synced, trails[i].synced)
	}
	return synced
}

// follow reads a log. Errors are those of the system; damage is in the trail.
func follow(log wal.LogicalLog, mark uint64) (trail, error) {
	fsys, path := log.SegmentLocation(0)
	t := trail{path: path}
	if err := t.readGroups(log, mark); err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	synced, err := scanTrailers(fsys, path, mark)
	if err != nil {
		return t, fmt.Errorf("read log %s: %w", path, err)
	}
	t.synced = synced
	return t, nil
}

// readGroups reads a log as Pebble does.
func (t *trail) readGroups(log wal.LogicalLog, mark uint64) error {
	r := log.OpenForRead()
	defer r.Close()
	for {
		batch, at, err := r.NextRecord()
		t.end = at.Physical
		var end tail
		if err == nil {
			_, err = io.Copy(&end, batch)
		}
		switch {
		case errors.Is(err, io.EOF):
			t.clean = true
			return nil
		case errors.Is(err, record.ErrUnexpectedEOF):
			return nil
		case err != nil && (record.IsInvalidRecord(err) || errors.Is(err, record.ErrInvalidChunk) || pebble.IsCorruptionError(err)):
			t.err = err
			return nil
		case err != nil:
			return err
		}
		group, ok := readTrailer(end.bytes(), mark)
		if !ok {
			continue // not a group: Pebble writes empty records of its own
		}
		if t.first == 0 {
			t.first = group.number
		}
		t.last = group.number
	}
}

// tail keeps the end of what is written to it, long enough for a trailer.
type tail struct{ buf []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b[max(0, len(b)-trailerLen):]...)
	if excess := len(t.buf) - trailerLen; excess > 0 {
		t.buf = append(t.buf[:0], t.buf[excess:]...)
	}
	return len(b), nil
}

func (t *tail) bytes() []byte { return t.buf }

// The log is in blocks, and each begins with the header of a chunk, so that a
// trailer may lie in two blocks with a header between its parts.
const (
	blockLen      = 32 << 10
	chunkType     = 6  // where it is in the header
	shortHeader   = 11 // of types 5 to 8
	longHeader    = 19 // of types 9 to 12
	lastShortType = 8
)

// scanTrailers looks for trailers in a log's bytes, whether its chunks can be read
// or not, and returns the greatest number of a group that they say was synced.
func scanTrailers(fsys vfs.FS, path string, mark uint64) (synced uint64, err error) {
	f, err := fsys.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sought := be.AppendUint64(nil, mark)
	block := make([]byte, blockLen)
	payload := make([]byte, 0, blockLen+trailerLen)
	for {
		n, err := io.ReadFull(f, block)
		if errors.Is(err, io.EOF) {
			return synced, nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return synced, err
		}
		payload = append(payload, block[min(n, headerLen(block[:n])):n]...)
		synced = max(synced, greatestSynced(payload, sought))
		rest := payload[max(0, len(payload)-trailerLen+1):]
		payload = append(payload[:0], rest...)
	}
}

func headerLen(block []byte) int {
	if len(block) > chunkType && block[chunkType] <= lastShortType {
		return shortHeader
	}
	return longHeader
}

func greatestSynced(b, mark []byte) (synced uint64) {
	for {
		i := bytes.Index(b, mark)
		if i < 0 {
			return synced
		}
		if t, ok := readTrailer(b[i:], be.Uint64(mark)); ok {
			synced = max(synced, t.synced)
		}
		b = b[i+1:]
	}
}
