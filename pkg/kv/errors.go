package kv

import (
	"errors"
	"fmt"
)

// Errors of a client's operation. What the client did wrong, or what this node
// cannot do now, each with its fixed message in the protocol.
var (
	// ErrInvalidKey is returned when a key is empty.
	ErrInvalidKey = errors.New("invalid key")
	// ErrKeyTooLong is returned when a key has more than MaxKeyLen bytes.
	ErrKeyTooLong = errors.New("key too long")
	// ErrValueTooLong is returned when a value has, or by APPEND would get,
	// more than MaxValueLen bytes.
	ErrValueTooLong = errors.New("value too long")
	// ErrStorageFull is returned when a write would grow what is stored beyond
	// the memory limit.
	ErrStorageFull = errors.New("storage full")
)

// Errors of an entry that came from outside.
var (
	// ErrInvalidEntry is returned for an entry that the format does not allow.
	ErrInvalidEntry = errors.New("invalid entry")
)

// ReadOnlyError is returned when this node takes no client writes at present.
type ReadOnlyError struct {
	Why string // for the client, as in "clock ahead by 90s"
}

func (e *ReadOnlyError) Error() string { return fmt.Sprintf("read only: %s", e.Why) }
