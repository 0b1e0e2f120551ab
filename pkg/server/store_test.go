package server

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// memory is a Store for tests: a map under a lock.
type memory struct {
	waits atomic.Int64 // calls of Wait
	// wait, if not nil, is what Wait returns.
	wait func(ctx context.Context, t journal.Ticket) error
	fail error // what writes return

	mu      sync.Mutex
	values  map[string][]byte
	ticket  journal.Ticket // the last one, 0 while tickets is false
	durable bool           // hand out tickets
}

func newMemory() *memory { return &memory{values: make(map[string][]byte)} }

func (m *memory) check(key []byte, size int) error {
	switch {
	case m.fail != nil:
		return m.fail
	case len(key) == 0:
		return kv.ErrInvalidKey
	case len(key) > kv.MaxKeyLen:
		return kv.ErrKeyTooLong
	case size > kv.MaxValueLen:
		return kv.ErrValueTooLong
	}
	return nil
}

func (m *memory) nextLocked() journal.Ticket {
	if m.durable {
		m.ticket++
	}
	return m.ticket
}

func (m *memory) Get(dst, key []byte) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[string(key)]
	return append(dst, v...), ok
}

func (m *memory) Set(key, value []byte) (journal.Ticket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(key, len(value)); err != nil {
		return 0, err
	}
	m.values[string(key)] = bytes.Clone(value)
	return m.nextLocked(), nil
}

func (m *memory) Delete(key []byte) (bool, journal.Ticket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(key, 0); err != nil {
		return false, 0, err
	}
	_, ok := m.values[string(key)]
	delete(m.values, string(key))
	return ok, m.nextLocked(), nil
}

func (m *memory) Exists(key []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.values[string(key)]
	return ok
}

func (m *memory) Append(dst, key, suffix []byte) ([]byte, journal.Ticket, error) {
	old, _ := m.Get(nil, key)
	value := append(old, suffix...)
	t, err := m.Set(key, value)
	return append(dst, value...), t, err
}

func (m *memory) Prepend(dst, key, prefix []byte) ([]byte, journal.Ticket, error) {
	old, _ := m.Get(nil, key)
	value := append(bytes.Clone(prefix), old...)
	t, err := m.Set(key, value)
	return append(dst, value...), t, err
}

func (m *memory) MSet(pairs [][]byte) (t journal.Ticket, err error) {
	for i := 0; i < len(pairs) && err == nil; i += 2 {
		t, err = m.Set(pairs[i], pairs[i+1])
	}
	return t, err
}

func (m *memory) Truncate() (journal.Ticket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	clear(m.values)
	return m.nextLocked(), nil
}

// Held shows a value as written one millisecond after 1970 began.
func (m *memory) Held(key []byte) []kv.Held {
	v, ok := m.Get(nil, key)
	if !ok {
		return nil
	}
	version := kv.Version{HLC: hlc.At(1) + 2, Instance: 3}
	return []kv.Held{{Entry: kv.Entry{Key: key, Version: version, Value: v}, Visible: true}}
}

func (m *memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.values)
}

func (m *memory) Scan(prefix, after []byte, limit int) (keys [][]byte, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.values {
		if strings.HasPrefix(k, string(prefix)) && (after == nil || k > string(after)) {
			keys = append(keys, []byte(k))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	if limit > 0 && len(keys) > limit {
		return keys[:limit], true
	}
	return keys, false
}

func (m *memory) MemoryUsed() int64 { return int64(m.Len()) * 100 }

func (m *memory) MemoryOf(key []byte) (int64, bool) {
	v, ok := m.Get(nil, key)
	return int64(len(v)) + 100, ok
}

func (m *memory) Wait(ctx context.Context, t journal.Ticket) error {
	m.waits.Add(1)
	if m.wait != nil {
		return m.wait(ctx, t)
	}
	return nil
}
