package server

import (
	"context"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// Store is the keyspace that commands act on. Its methods are called by many
// goroutines at once. Writes return one of kv.ErrInvalidKey, kv.ErrKeyTooLong,
// kv.ErrValueTooLong, kv.ErrStorageFull or a *kv.ReadOnlyError when the client
// is to know why; any other error is reported to it as an internal one.
type Store interface {
	// Get appends the value to dst and returns the extended slice.
	Get(dst, key []byte) (value []byte, ok bool)
	Set(key, value []byte) (journal.Ticket, error)
	// Delete reports whether the key existed.
	Delete(key []byte) (existed bool, t journal.Ticket, err error)
	Exists(key []byte) bool
	// Append and Prepend append the whole new value to dst.
	Append(dst, key, suffix []byte) (value []byte, t journal.Ticket, err error)
	Prepend(dst, key, prefix []byte) (value []byte, t journal.Ticket, err error)
	// MSet stores key, value, key, value and so on: all or none.
	MSet(pairs [][]byte) (journal.Ticket, error)
	// Truncate removes all keys, here and on every other node: whatever was
	// written before it.
	Truncate() (journal.Ticket, error)
	// Held returns all that is held of a key, whether readers see it or not.
	Held(key []byte) []kv.Held
	// Len is the number of keys.
	Len() int
	// Scan returns up to limit keys greater than after that begin with prefix,
	// sorted bytewise, and whether there are more. A nil after begins at the
	// start; a limit of 0 or less is none.
	Scan(prefix, after []byte, limit int) (keys [][]byte, more bool)
	// MemoryUsed is what all keys take, in bytes.
	MemoryUsed() int64
	// MemoryOf is what one key takes, in bytes.
	MemoryOf(key []byte) (bytes int64, ok bool)
	// Wait returns when the ticket's write, and all before it, are durable.
	Wait(ctx context.Context, t journal.Ticket) error
}
