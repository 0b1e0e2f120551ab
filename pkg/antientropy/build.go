package antientropy

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"merklekv/pkg/internal/prefix"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

// Build makes the set anew from all entries that are held, at an instant in Unix
// milliseconds: at the start, and when a truncation has emptied it. What had been
// superseded is not known any more, so no root is told of an epoch before the
// newest entry's.
func (x *Index) Build(millis int64) {
	x.skip()
	b := newBuilder(x.mark)
	x.src.Dump(b.take)
	x.build(b, millis)
}

// BuildLoaded is Build where what is held was just loaded, entry by entry, and is
// known to l as well, which is used up.
func (x *Index) BuildLoaded(l *Loaded, millis int64) {
	x.skip()
	x.build(l.b, millis)
}

// Loaded gathers entries while they are loaded, for an Index that then need not go
// through all of them again. Entries that come in the order of their names need not
// be sorted.
type Loaded struct{ b *builder }

// NewLoaded returns a Loaded without entries.
func NewLoaded() *Loaded { return &Loaded{newBuilder(kv.Version{})} }

// Add takes an entry, of each name one, the truncation mark before what it kills. It
// copies what it keeps.
func (l *Loaded) Add(e *kv.Entry) { l.b.take(e) }

// skip passes over what the log holds.
func (x *Index) skip() {
	for head := x.src.LogHead(); x.src.Pos() < head && x.src.Read(readAtOnce, func(*kv.Logged) {}) > 0; {
	}
}

func (x *Index) build(b *builder, millis int64) {
	b.finish()
	x.from = b.newest
	base := max(b.newest, epochAt(millis-x.tail)-1)
	x.mark, x.due = b.mark, newDueList()
	x.window, x.older, x.late = make(map[int64]*epochLog), &epochLog{epoch: never}, false
	x.kept = []keptRoot{{base, x.treeOf(b, base)}}
	x.built, x.stale = true, false
	// What was written meanwhile may be in the tree or not; now it is.
	x.drainTo(x.src.LogHead())
}

// builder gathers all entries, in pieces of which none is ever moved. While one is
// filled, those before it are hashed on another processor.
type builder struct {
	pieces  []*piece
	hashing sync.WaitGroup
	newest  int64
	mark    kv.Version
	special []uint32 // places of what may leave the set by itself
	last    []byte   // name of the last entry: key, then facet
	lastKey int      // length of its key
	mixed   bool     // entries did not come in the order of their names
}

func newBuilder(mark kv.Version) *builder { return &builder{newest: never, mark: mark} }

// piece holds the names of some entries and what is to be known of them.
type piece struct {
	slab    []byte
	held    []held
	values  []byte           // of those that are not hashed yet, one after the other
	expires map[uint32]int64 // by place, of those that expire
}

const (
	pieceBits = 14
	pieceLen  = 1 << pieceBits
)

// held is one entry, without its value.
type held struct {
	name    uint32 // where the name begins in the slab
	key     uint16 // length
	value   uint16 // length; hashed: the tag is there
	facet   uint8  // length
	flags   kv.Flags
	version kv.Version
	tag     merkle.Tag
}

const (
	hashed    = 1<<16 - 1
	copyLimit = 1 << 10 // bytes of a value that is copied to be hashed later
)

func (b *builder) take(e *kv.Entry) bool {
	if !e.IsReserved() && !b.mark.Less(e.Version) {
		return true // dead, and older than the mark, which is there too
	}
	b.newest = max(b.newest, e.Version.Epoch())
	if e.IsMark() {
		b.mark = e.Version
	}
	p := b.room()
	h := held{
		name: uint32(len(p.slab)), key: uint16(len(e.Key)), facet: uint8(len(e.Facet)), flags: e.Flags,
		version: e.Version, value: hashed,
	}
	if len(e.Value) > copyLimit {
		h.tag = merkle.TagOf(e)
	} else {
		h.value = uint16(len(e.Value))
		p.values = append(p.values, e.Value...)
	}
	if e.Flags != 0 {
		b.noteSpecial(p, e)
	}
	p.held = append(p.held, h)
	p.slab = append(append(p.slab, e.Key...), e.Facet...)
	b.noteOrder(e)
	return true
}

// noteOrder finds out whether entries come in the order of their names.
func (b *builder) noteOrder(e *kv.Entry) {
	if b.mixed {
		return
	}
	b.mixed = merkle.CompareNames(b.last[:b.lastKey], b.last[b.lastKey:], e.Key, e.Facet) > 0
	b.last = append(append(b.last[:0], e.Key...), e.Facet...)
	b.lastKey = len(e.Key)
}

// noteSpecial notes what is about to become the next entry of the last piece.
func (b *builder) noteSpecial(p *piece, e *kv.Entry) {
	at := uint32(len(p.held))
	b.special = append(b.special, uint32(len(b.pieces)-1)<<pieceBits|at)
	if e.Flags&kv.HasExpiry == 0 {
		return
	}
	if p.expires == nil {
		p.expires = make(map[uint32]int64)
	}
	p.expires[at] = e.ExpiresAt
}

// room returns the piece that takes the next entry.
func (b *builder) room() *piece {
	if n := len(b.pieces); n > 0 {
		last := b.pieces[n-1]
		if len(last.held) < pieceLen {
			return last
		}
		b.hashing.Go(last.hash)
	}
	p := &piece{held: make([]held, 0, pieceLen), slab: make([]byte, 0, 16*pieceLen)}
	b.pieces = append(b.pieces, p)
	return p
}

// finish hashes what is left and waits for the rest.
func (b *builder) finish() {
	if n := len(b.pieces); n > 0 {
		b.pieces[n-1].hash()
	}
	b.hashing.Wait()
}

// hash computes the tags of a piece.
func (p *piece) hash() {
	at := 0
	for i := range p.held {
		h := &p.held[i]
		if h.value == hashed {
			continue
		}
		e, _ := p.entry(uint32(i))
		e.Value = p.values[at : at+int(h.value)]
		at += int(h.value)
		h.tag = merkle.TagOf(&e)
	}
	p.values = nil
}

func (b *builder) at(i uint32) (*piece, *held) {
	p := b.pieces[i>>pieceBits]
	return p, &p.held[i&(pieceLen-1)]
}

// entry returns an entry without its value.
func (b *builder) entry(i uint32) (kv.Entry, merkle.Tag) {
	return b.pieces[i>>pieceBits].entry(i & (pieceLen - 1))
}

func (p *piece) entry(i uint32) (kv.Entry, merkle.Tag) {
	h := &p.held[i]
	key := p.slab[h.name : h.name+uint32(h.key)]
	facet := p.slab[h.name+uint32(h.key):][:h.facet]
	e := kv.Entry{Key: key, Facet: facet, Version: h.version, Flags: h.flags}
	if h.flags&kv.HasExpiry != 0 {
		e.ExpiresAt = p.expires[i]
	}
	return e, h.tag
}

func (b *builder) key(i uint32) []byte {
	p, h := b.at(i)
	return p.slab[h.name : h.name+uint32(h.key)]
}

// treeOf hashes the entries that belong to the set at an epoch.
func (x *Index) treeOf(b *builder, e int64) merkle.Tree {
	order := b.order()
	updates := make([]merkle.Update, len(order))
	half := len(order) / 2
	var other sync.WaitGroup
	other.Go(func() { x.fillUpdates(b, order[:half], updates[:half], e) })
	x.fillUpdates(b, order[half:], updates[half:], e)
	other.Wait()
	for _, at := range b.special {
		if entry, tag := b.entry(at); !x.hidden(&entry, e) {
			x.noteDue(&entry, tag, e)
		}
	}
	return merkle.Tree{}.Apply(updates)
}

// fillUpdates makes updates of entries. To remove what is hidden from a tree that
// is empty does nothing.
func (x *Index) fillUpdates(b *builder, order []sortKey, updates []merkle.Update, e int64) {
	for i, o := range order {
		entry, tag := b.entry(o.at)
		updates[i] = merkle.Update{Key: entry.Key, Facet: entry.Facet, Tag: tag}
		if entry.Flags != 0 || !b.mark.IsZero() { // else nothing hides it
			updates[i].Remove = x.hidden(&entry, e)
		}
	}
}

// order returns the places of all entries by name.
func (b *builder) order() []sortKey {
	if len(b.pieces) == 0 {
		return nil
	}
	n := (len(b.pieces)-1)<<pieceBits + len(b.pieces[len(b.pieces)-1].held)
	order := make([]sortKey, n)
	if !b.mixed {
		for i := range order {
			order[i].at = uint32(i)
		}
		return order
	}
	skip := b.sharedPrefix()
	for i := range order {
		order[i] = sortKey{prefix.Head(b.key(uint32(i))[skip:]), uint32(i)}
	}
	return sortParallel(order, b.compare)
}

func (b *builder) compare(x, y sortKey) int {
	if x.head != y.head {
		return cmp.Compare(x.head, y.head)
	}
	e, _ := b.entry(x.at)
	f, _ := b.entry(y.at)
	return merkle.CompareNames(e.Key, e.Facet, f.Key, f.Facet)
}

func (b *builder) sharedPrefix() int {
	first := b.key(0)
	n := len(first)
	for _, p := range b.pieces {
		for i := range p.held {
			h := &p.held[i]
			n = prefix.Shared(first[:n], p.slab[h.name:h.name+uint32(h.key)])
		}
	}
	return n
}

// sortParallel sorts on all processors and returns the result.
func sortParallel(keys []sortKey, compare func(a, b sortKey) int) []sortKey {
	const least = 1 << 15
	if len(keys) < least || runtime.GOMAXPROCS(0) == 1 {
		slices.SortFunc(keys, compare)
		return keys
	}
	left, right := keys[:len(keys)/2], keys[len(keys)/2:]
	var other sync.WaitGroup
	other.Go(func() { slices.SortFunc(right, compare) })
	slices.SortFunc(left, compare)
	other.Wait()
	merged := make([]sortKey, 0, len(keys))
	for len(left) > 0 && len(right) > 0 {
		if compare(left[0], right[0]) <= 0 {
			merged, left = append(merged, left[0]), left[1:]
		} else {
			merged, right = append(merged, right[0]), right[1:]
		}
	}
	return append(append(merged, left...), right...)
}
