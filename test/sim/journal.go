package main

import (
	"context"
	"maps"
	"slices"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
)

// disk is a journal that outlives its node: what was appended is there at the
// next start. All of it is durable at once.
type disk struct {
	entries map[string]kv.Entry // by name
	tickets journal.Ticket
}

var _ journal.Journal = (*disk)(nil)

func newDisk() *disk { return &disk{entries: make(map[string]kv.Entry)} }

func (d *disk) Append(c *kv.Change) journal.Ticket {
	name := nameOf(&c.Entry)
	if held, there := d.entries[name]; !there || kv.Compare(&c.Entry, &held) > 0 {
		d.entries[name] = c.Entry.Clone()
	}
	d.tickets++
	return d.tickets
}

func (d *disk) Note(uint64, uint64, hlc.Timestamp) journal.Ticket { return d.tickets }
func (d *disk) Vouch(journal.Mark) journal.Ticket                 { return d.tickets }
func (d *disk) Received() []journal.Mark                          { return nil }

func (d *disk) Durable() journal.Ticket                    { return d.tickets }
func (d *disk) Wait(context.Context, journal.Ticket) error { return nil }
func (d *disk) Close() error                               { return nil }

func (d *disk) Load(fn func(*kv.Entry) error) error {
	for _, name := range slices.Sorted(maps.Keys(d.entries)) {
		e := d.entries[name]
		if err := fn(&e); err != nil {
			return err
		}
	}
	return nil
}
