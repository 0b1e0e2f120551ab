package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/vector"
)

// policy says when what was appended counts as durable.
type policy uint8

const (
	instant  policy = iota // when it is appended: a disk that forgets nothing
	always                 // when it was forced to the disk
	interval               // when it was handed to the system; it is forced to the disk every second
	never                  // when it was handed to the system, which forces it to the disk when it likes
)

func (p policy) String() string {
	return [...]string{"instant", "always", "interval", "never"}[p]
}

// image is what a disk holds: the last entry of each name, and the vector that the
// records which brought them make up.
type image struct {
	entries map[string]kv.Entry // by name
	vector  *vector.Vector
}

func newImage(marks []journal.Mark) image {
	m := image{entries: make(map[string]kv.Entry), vector: vector.New()}
	m.vector.Retain(math.MaxInt64)
	for _, k := range marks {
		m.vector.Adopt(k.Origin, vector.Mark{Seq: k.Seq, HLC: k.Stamp})
	}
	return m
}

// record is what one call appends: an entry with its place, a place, or the end of
// all that counts as received of an origin.
type record struct {
	at    time.Duration // when it was appended
	entry *kv.Entry     // nil: none
	place journal.Mark
	vouch bool
}

func (m *image) take(r *record) {
	if r.entry != nil {
		m.entries[nameOf(r.entry)] = *r.entry
	}
	switch {
	case r.vouch:
		m.vector.Adopt(r.place.Origin, vector.Mark{Seq: r.place.Seq, HLC: r.place.Stamp})
	case r.place.Seq != 0:
		m.vector.Add(r.place.Origin, r.place.Seq, r.place.Stamp)
	}
}

// marks returns the ends of what was received without a gap, by origin.
func (m *image) marks() []journal.Mark {
	var marks []journal.Mark
	for _, origin := range m.vector.Instances() {
		if p := m.vector.Prefix(origin); p.Seq > 0 {
			marks = append(marks, journal.Mark{Origin: origin, Seq: p.Seq, Stamp: p.HLC})
		}
	}
	return marks
}

// disk is a journal that outlives its node, as far as it was forced to the disk,
// and the bound of the node's clock. It knows no time: its node writes and syncs.
type disk struct {
	policy   policy
	kept     image
	tail     []record       // appended and not forced to the disk, in their order
	appended journal.Ticket // of the last record; tickets go on over restarts
	written  journal.Ticket // handed to the system: what kills the process does not touch it
	synced   journal.Ticket // in kept
	received []journal.Mark // what was in kept when the node started
	bound    hlc.Timestamp
	failing  bool                 // the next write or sync fails
	broken   bool                 // one has failed: nothing becomes durable any more
	wake     func()               // is told of records to be written
	now      func() time.Duration // for the oracle
}

var _ journal.Journal = (*disk)(nil)

var errDisk = errors.New("input/output error")

func newDisk(p policy, now func() time.Duration) *disk {
	return &disk{policy: p, kept: newImage(nil), now: now, wake: func() {}}
}

func (d *disk) Append(c *kv.Change) journal.Ticket {
	e := c.Entry.Clone()
	return d.append(record{entry: &e, place: journal.Mark{Origin: c.Origin, Seq: c.Seq, Stamp: c.Entry.Version.HLC}})
}

func (d *disk) Note(origin, seq uint64, stamp hlc.Timestamp) journal.Ticket {
	return d.append(record{place: journal.Mark{Origin: origin, Seq: seq, Stamp: stamp}})
}

func (d *disk) Vouch(m journal.Mark) journal.Ticket {
	return d.append(record{place: m, vouch: true})
}

func (d *disk) append(r record) journal.Ticket {
	d.appended++
	if d.policy == instant {
		d.kept.take(&r)
		d.written, d.synced = d.appended, d.appended
		return d.appended
	}
	r.at = d.now()
	d.tail = append(d.tail, r)
	d.wake()
	return d.appended
}

// write hands all up to a ticket to the system.
func (d *disk) write(to journal.Ticket) { d.written = max(d.written, to) }

// sync forces all up to a ticket to the disk.
func (d *disk) sync(to journal.Ticket) {
	d.write(to)
	for d.synced < to {
		d.synced++
		d.kept.take(&d.tail[0])
		d.tail = d.tail[1:]
	}
}

// crash keeps what was appended up to a ticket, not below what is on the disk, and
// returns what is lost.
func (d *disk) crash(to journal.Ticket) []record {
	d.sync(to)
	lost := d.tail
	d.tail, d.written, d.synced = nil, d.appended, d.appended
	return lost
}

// open begins another life of the node. What was above a gap is forgotten: only
// the ends of what has none are on the disk.
func (d *disk) open() {
	d.failing, d.broken = false, false
	d.received = d.kept.marks()
	entries := d.kept.entries
	d.kept = newImage(d.received)
	d.kept.entries = entries
}

func (d *disk) Durable() journal.Ticket {
	if d.policy == always {
		return d.synced
	}
	return d.written
}

// Wait never waits: time stands still here. See node.whenDurable.
func (d *disk) Wait(_ context.Context, t journal.Ticket) error {
	if d.broken || d.Durable() < t {
		return errDisk
	}
	return nil
}

func (d *disk) Received() []journal.Mark { return d.received }

func (d *disk) Close() error { return nil }

func (d *disk) Load(fn func(*kv.Entry) error) error {
	for _, name := range slices.Sorted(maps.Keys(d.kept.entries)) {
		e := d.kept.entries[name]
		if err := fn(&e); err != nil {
			return err
		}
	}
	return nil
}

// Reserve makes the clock's bound at least t, at once and for good.
func (d *disk) Reserve(t hlc.Timestamp) error {
	if d.broken {
		return fmt.Errorf("write the clock's bound: %w", errDisk)
	}
	d.bound = max(d.bound, t)
	return nil
}

// version returns whose receipt a record tells of, false for none.
func (r *record) version() (kv.Version, bool) {
	switch {
	case r.entry != nil:
		return r.entry.Version, true
	case r.vouch:
		return kv.Version{}, false
	}
	return kv.Version{HLC: r.place.Stamp, Instance: r.place.Origin}, true
}
