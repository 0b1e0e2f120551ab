package disk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/durable"
)

// A seal says how a MANIFEST begins, so that damage in it is not taken for its
// end, after which Pebble would open an older state of the journal and delete what
// is newer. It lies beside the MANIFEST, in a file named after it, and is 61
// bytes, numbers big endian:
//
//	magic "mkv-seal"  8
//	mark              8  random number of the journal, which its log's trailers bear
//	lazy              1  1 if the log is not synced when Pebble asks for it, else 0
//	size              8  of what is sealed
//	SHA-256          32  of the MANIFEST's first size bytes
//	CRC-32C           4  of the bytes before
//
// It is renewed whenever Pebble syncs a MANIFEST, before Pebble learns that the
// sync is done: so all that Pebble ever relied on is sealed.
type seal struct {
	mark uint64
	lazy bool
	size uint64
	sum  [sha256.Size]byte
}

const (
	sealMagic      = "mkv-seal"
	sealLen        = 8 + 8 + 1 + 8 + sha256.Size + 4
	sealSuffix     = ".seal"
	manifestPrefix = "MANIFEST-"
)

func (s *seal) encode() []byte {
	b := make([]byte, 0, sealLen)
	b = append(b, sealMagic...)
	b = be.AppendUint64(b, s.mark)
	if s.lazy {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = be.AppendUint64(b, s.size)
	b = append(b, s.sum[:]...)
	return be.AppendUint32(b, checksum(b))
}

func decodeSeal(b []byte) (s seal, ok bool) {
	body := len(b) - 4
	if len(b) != sealLen || !bytes.HasPrefix(b, []byte(sealMagic)) || checksum(b[:body]) != be.Uint32(b[body:]) {
		return s, false
	}
	s.mark, s.lazy, s.size = be.Uint64(b[8:]), b[16] == 1, be.Uint64(b[17:])
	copy(s.sum[:], b[25:body])
	return s, true
}

// readSeal reads the seal of a MANIFEST. That it is not there or is not what was
// written is a DamageError.
func readSeal(fsys vfs.FS, manifest string) (s seal, err error) {
	name := manifest + sealSuffix
	b, err := readSmall(fsys, name, sealLen)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, &DamageError{File: name, Err: errors.New("it is missing")}
	case err != nil:
		return s, err
	}
	s, ok := decodeSeal(b)
	if !ok {
		return s, &DamageError{File: name, Err: errors.New("it is not what was written")}
	}
	return s, nil
}

// check compares a MANIFEST with its seal.
func (s *seal) check(fsys vfs.FS, manifest string) error {
	f, err := fsys.Open(manifest, vfs.SequentialReadsOption)
	if errors.Is(err, fs.ErrNotExist) {
		return &DamageError{File: manifest, Err: errors.New("it is missing")}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, int64(min(s.size, 1<<62))))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", manifest, err)
	case uint64(n) < s.size:
		return &DamageError{File: manifest, Err: fmt.Errorf("it ends after %d of %d bytes", n, s.size)}
	case [sha256.Size]byte(sum.Sum(nil)) != s.sum:
		return &DamageError{File: manifest, Err: fmt.Errorf("its first %d bytes are not what was written", n)}
	}
	return nil
}

// readSmall reads a file, at most one byte more than limit.
func readSmall(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// sealFS seals each MANIFEST that is written through it, and shows of a torn log
// only what is whole. It also keeps in mind which file was opened last, for errors
// of Pebble that name none.
type sealFS struct {
	vfs.FS
	findings
	opened *atomic.Pointer[string]
	fail   func(error) // called when what Pebble would panic over fails
}

func newSealFS(fsys vfs.FS, found findings, fail func(error)) sealFS {
	return sealFS{FS: fsys, findings: found, opened: new(atomic.Pointer[string]), fail: fail}
}

func (s sealFS) OpenDir(name string) (vfs.File, error) {
	d, err := s.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &finalFile{File: d, halt: s.halt}, nil
}

// Unwrap is part of vfs.FS.
func (s sealFS) Unwrap() vfs.FS { return s.FS }

// lastOpened returns the path of the file that was opened last, "" if none was.
func (s sealFS) lastOpened() string {
	if name := s.opened.Load(); name != nil {
		return *name
	}
	return ""
}

func (s sealFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	s.opened.Store(&name)
	f, err := s.FS.Open(name, opts...)
	if whole, torn := s.torn[name]; torn && err == nil {
		return &tornFile{File: f, left: whole}, nil
	}
	return f, err
}

func (s sealFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	switch {
	case strings.HasSuffix(name, logSuffix):
		return s.final(f, err), nil
	case err != nil || !isManifest(s.PathBase(name)):
		return f, err
	}
	return &sealedFile{File: f, fs: s.FS, name: name, mark: s.mark, lazy: s.lazy, sum: sha256.New()}, nil
}

func (s sealFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(oldname, newname, category)
	if !strings.HasSuffix(newname, logSuffix) {
		return f, err
	}
	return s.final(f, err), nil
}

func (s sealFS) Remove(name string) error {
	if err := s.FS.Remove(name); err != nil || !isManifest(s.PathBase(name)) {
		return err
	}
	if err := s.FS.Remove(name + sealSuffix); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func isManifest(base string) bool {
	number, found := strings.CutPrefix(base, manifestPrefix)
	return found && strings.Trim(number, "0123456789") == ""
}

// sealedFile is a MANIFEST that is being written.
type sealedFile struct {
	vfs.File
	fs   vfs.FS
	name string
	mark uint64
	lazy bool
	size uint64
	sum  hash.Hash
}

func (f *sealedFile) Write(b []byte) (int, error) {
	f.sum.Write(b) // first: a file may change what it is given to write
	n, err := f.File.Write(b)
	f.size += uint64(n)
	return n, err // a MANIFEST that could not be written is never sealed again
}

func (f *sealedFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	return f.seal()
}

func (f *sealedFile) SyncData() error {
	if err := f.File.SyncData(); err != nil {
		return err
	}
	return f.seal()
}

func (f *sealedFile) seal() error {
	s := seal{mark: f.mark, lazy: f.lazy, size: f.size}
	f.sum.Sum(s.sum[:0])
	return s.write(f.fs, f.name)
}

func (s *seal) write(fsys vfs.FS, manifest string) error {
	if err := durable.ReplaceFile(fsys, manifest+sealSuffix, s.encode()); err != nil {
		return fmt.Errorf("seal %s: %w", manifest, err)
	}
	return nil
}

// tornFile is the beginning of a file.
type tornFile struct {
	vfs.File
	left int64
}

func (f *tornFile) Read(b []byte) (int, error) {
	if f.left <= 0 {
		return 0, io.EOF
	}
	n, err := f.File.Read(b[:min(int64(len(b)), f.left)])
	f.left -= int64(n)
	return n, err
}
