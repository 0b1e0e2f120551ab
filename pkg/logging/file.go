package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// File is a log file that is rotated by size. Its methods may be called at the
// same time.
type File struct {
	path    string
	maxSize int64 // bytes; 0 never rotates
	keep    int   // rotated files

	mu     sync.Mutex
	f      *os.File // nil after Close, or when the last attempt to open failed
	size   int64    // of f
	closed bool
}

// OpenFile opens or creates a log file to append to. It is rotated before a
// write would make it larger than maxSize bytes (0: never), and keep rotated
// files are kept beside it, at least 1.
func OpenFile(path string, maxSize int64, keep int) (*File, error) {
	if maxSize < 0 || keep < 1 {
		return nil, fmt.Errorf("log file %s: size %d or count %d out of range", path, maxSize, keep)
	}
	l := &File{path: path, maxSize: maxSize, keep: keep}
	if err := l.openLocked(); err != nil {
		return nil, err
	}
	return l, nil
}

// Write appends one record. A file that cannot be rotated goes on growing, since
// a record that is too many is better than one that is lost.
func (l *File) Write(record []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, fmt.Errorf("log file %s: %w", l.path, fs.ErrClosed)
	}
	if l.f != nil && l.maxSize > 0 && l.size > 0 && l.size+int64(len(record)) > l.maxSize {
		l.rotateLocked()
	}
	if l.f == nil {
		if err := l.openLocked(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(record)
	l.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write log file: %w", err)
	}
	return n, nil
}

// Reopen closes the file and opens whatever is at its path, a new file if there
// is none. When that fails the next Write tries again.
func (l *File) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("log file %s: %w", l.path, fs.ErrClosed)
	}
	return errors.Join(l.closeLocked(), l.openLocked())
}

// Close ends the file. A second call does nothing.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.closeLocked()
}

func (l *File) openLocked() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log file: %w", err), f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

func (l *File) closeLocked() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f, l.size = nil, 0
	if err != nil {
		return fmt.Errorf("close log file: %w", err)
	}
	return nil
}

// rotateLocked moves every file one number on, the last one out. Where a rename
// fails the file at the path is opened again and grows until the next attempt.
func (l *File) rotateLocked() {
	_ = l.closeLocked() // the records are written; a lost close has nobody to tell
	for i := l.keep - 1; i >= 1; i-- {
		_ = os.Rename(l.numbered(i), l.numbered(i+1)) // often there is none yet
	}
	_ = os.Rename(l.path, l.numbered(1))
}

func (l *File) numbered(i int) string { return fmt.Sprintf("%s.%d", l.path, i) }
