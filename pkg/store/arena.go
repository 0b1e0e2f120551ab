package store

import (
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
)

// The arena holds every entry's bytes in memory that has no pointers:
//
//	ref (32 bits) = chunk (15 bits) | offset in units of 8 bytes (17 bits)
//
//	chunk   1 MiB, cut into spans of one size; or one mapping of its own for a
//	        single object above maxClassSize
//	span    slots of one size class; 32 KiB for classes up to 2 KiB, a whole
//	        chunk above
//	slot    one entry
//
// Size classes step by 8 bytes up to 256, then by an eighth of a power of two,
// so that a slot wastes at most 12.5 %. The arena holds at least 16 GiB.
// Ref 0 is never given out.
const (
	chunkShift   = 20
	chunkSize    = 1 << chunkShift
	maxChunks    = 1 << 15
	unitShift    = 3
	offsetBits   = chunkShift - unitShift
	offsetMask   = 1<<offsetBits - 1
	smallSpan    = 32 << 10
	smallMax     = 2 << 10
	maxClassSize = chunkSize / 2
	spansAChunk  = chunkSize / smallSpan
	pageSize     = 4 << 10
)

// ref addresses one slot of the arena; 0 is none.
type ref uint32

// errArenaFull is returned when all chunks are in use.
var errArenaFull = errors.New("all 32,768 memory chunks are in use")

// class numbers a slot size.
type class uint8

const (
	linearClasses = 256 / 8 // sizes 8, 16, ..., 256
	numClasses    = linearClasses + 8*11
	noClass       = class(255)
)

// classOf returns the smallest class whose slots hold size bytes, 1 to
// maxClassSize.
func classOf(size int) class {
	if size <= 256 {
		return class((size+7)/8 - 1)
	}
	// Eight steps from one power of two to the next.
	octave := bits.Len(uint(size-1)) - 9
	step := (size - 1) >> (octave + 5) & 7
	return class(linearClasses + octave*8 + step)
}

// size returns the bytes of a slot of class c.
func (c class) size() int {
	if c < linearClasses {
		return (int(c) + 1) * 8
	}
	octave, step := (int(c)-linearClasses)/8, (int(c)-linearClasses)%8
	return (256 + (step+1)*32) << octave
}

// spanSize returns how many bytes a span of class c has.
func (c class) spanSize() int {
	if c.size() <= smallMax {
		return smallSpan
	}
	return chunkSize
}

type chunk struct {
	mem   []byte
	small bool // cut into small spans, else one span or one object
}

// span is the book-keeping of slots of one class. Free slots are linked through
// their own first four bytes, as offset in units plus one.
type span struct {
	class      class
	used       uint32
	freeHead   uint32
	bump       uint32 // bytes given out so far, in order
	prev, next int32  // in the list of its class, by span id; -1 ends it
}

type arena struct {
	// chunks is replaced as a whole when it grows; readers load it without the
	// lock. Index 0 stays empty.
	chunks atomic.Pointer[[]chunk]

	mu         sync.Mutex
	spans      []span            // spansAChunk for every chunk
	partial    [numClasses]int32 // first span with a free slot, -1 for none
	emptySmall []int32           // small spans without a class
	emptyLarge []int32           // chunks without a class
	freeIDs    []int32           // chunk numbers whose mapping is gone
	mapped     int64             // bytes
}

func newArena() *arena {
	a := &arena{spans: make([]span, spansAChunk)}
	a.chunks.Store(&[]chunk{{}})
	for i := range a.partial {
		a.partial[i] = -1
	}
	return a
}

// at returns the memory from r to the end of its chunk.
func (a *arena) at(r ref) []byte {
	c := &(*a.chunks.Load())[r>>offsetBits]
	return c.mem[int(r&offsetMask)<<unitShift:]
}

// slotSize returns how many bytes a request for size takes.
func slotSize(size int) int {
	if size > maxClassSize {
		return (size + pageSize - 1) &^ (pageSize - 1)
	}
	return classOf(size).size()
}

// alloc returns a slot of at least size bytes, whose content is arbitrary.
func (a *arena) alloc(size int) (ref, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if size > maxClassSize {
		id, err := a.addChunkLocked(slotSize(size), false)
		return ref(id) << offsetBits, err
	}
	c := classOf(size)
	id := a.partial[c]
	if id < 0 {
		var err error
		if id, err = a.newSpanLocked(c); err != nil {
			return 0, err
		}
	}
	return a.takeLocked(id), nil
}

// takeLocked takes a slot of a span that has one.
func (a *arena) takeLocked(id int32) ref {
	s := &a.spans[id]
	base := ref(id/spansAChunk)<<offsetBits | ref(id%spansAChunk*smallSpan>>unitShift)
	var r ref
	if s.freeHead != 0 {
		r = base + ref(s.freeHead-1)
		s.freeHead = le.Uint32(a.at(r))
	} else {
		r = base + ref(s.bump>>unitShift)
		s.bump += uint32(s.class.size())
	}
	s.used++
	if s.full() {
		a.unlinkLocked(id)
	}
	return r
}

// full reports whether no slot is left.
func (s *span) full() bool {
	return s.freeHead == 0 && int(s.bump)+s.class.size() > s.class.spanSize()
}

// free gives back the slot of an object of size bytes.
func (a *arena) free(r ref, size int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	number := int32(r >> offsetBits)
	if size > maxClassSize {
		a.dropChunkLocked(number)
		return
	}
	id := number * spansAChunk
	c := &(*a.chunks.Load())[number]
	if c.small {
		id += int32(int(r&offsetMask) << unitShift / smallSpan)
	}
	s := &a.spans[id]
	wasFull := s.full()
	poison(a.at(r)[:s.class.size()])
	le.PutUint32(a.at(r), s.freeHead)
	base := ref(number)<<offsetBits | ref(int(id%spansAChunk)*smallSpan>>unitShift)
	s.freeHead = uint32(r-base) + 1
	s.used--
	if wasFull {
		a.linkLocked(id)
	}
	// One empty span a class stays, so that a single slot going back and forth
	// does not take and release a span each time.
	if s.used == 0 && (s.prev >= 0 || s.next >= 0) {
		a.releaseLocked(id)
	}
}

// newSpanLocked gives class c a span and returns its id.
func (a *arena) newSpanLocked(c class) (int32, error) {
	empty := &a.emptyLarge
	if c.spanSize() == smallSpan {
		empty = &a.emptySmall
	}
	if len(*empty) == 0 {
		if err := a.addSpansLocked(c.spanSize() == smallSpan); err != nil {
			return 0, err
		}
	}
	last := len(*empty) - 1
	id := (*empty)[last]
	*empty = (*empty)[:last]
	a.spans[id] = span{class: c}
	a.linkLocked(id)
	return id, nil
}

// addSpansLocked maps a chunk and adds its spans to the empty ones.
func (a *arena) addSpansLocked(small bool) error {
	number, err := a.addChunkLocked(chunkSize, small)
	if err != nil {
		return err
	}
	first := number * spansAChunk
	if !small {
		a.emptyLarge = append(a.emptyLarge, first)
		return nil
	}
	for i := int32(spansAChunk - 1); i >= 0; i-- {
		a.emptySmall = append(a.emptySmall, first+i)
	}
	return nil
}

// addChunkLocked maps size bytes under a chunk number of their own.
func (a *arena) addChunkLocked(size int, small bool) (int32, error) {
	chunks := *a.chunks.Load()
	if len(chunks) == maxChunks && len(a.freeIDs) == 0 {
		return 0, errArenaFull
	}
	mem, err := mapMemory(size)
	if err != nil {
		return 0, err
	}
	a.mapped += int64(size)
	if n := len(a.freeIDs); n > 0 {
		number := a.freeIDs[n-1]
		a.freeIDs = a.freeIDs[:n-1]
		// Readers share this element, but none of them holds a ref into it.
		chunks[number] = chunk{mem: mem, small: small}
		return number, nil
	}
	grown := append(chunks, chunk{mem: mem, small: small})
	a.chunks.Store(&grown)
	a.spans = append(a.spans, make([]span, spansAChunk)...)
	return int32(len(chunks)), nil
}

// dropChunkLocked unmaps a chunk; its number is used again.
func (a *arena) dropChunkLocked(number int32) {
	c := &(*a.chunks.Load())[number]
	a.mapped -= int64(len(c.mem))
	unmapMemory(c.mem)
	c.mem = nil
	a.freeIDs = append(a.freeIDs, number)
}

// releaseLocked takes an empty span away from its class and lets the system
// have its pages.
func (a *arena) releaseLocked(id int32) {
	a.unlinkLocked(id)
	number, size := id/spansAChunk, a.spans[id].class.spanSize()
	start := int(id%spansAChunk) * smallSpan
	discardMemory((*a.chunks.Load())[number].mem[start : start+size])
	a.spans[id] = span{class: noClass}
	if size == smallSpan {
		a.emptySmall = append(a.emptySmall, id)
	} else {
		a.emptyLarge = append(a.emptyLarge, id)
	}
}

func (a *arena) linkLocked(id int32) {
	s := &a.spans[id]
	s.prev, s.next = -1, a.partial[s.class]
	if s.next >= 0 {
		a.spans[s.next].prev = id
	}
	a.partial[s.class] = id
}

func (a *arena) unlinkLocked(id int32) {
	s := &a.spans[id]
	if s.prev >= 0 {
		a.spans[s.prev].next = s.next
	} else {
		a.partial[s.class] = s.next
	}
	if s.next >= 0 {
		a.spans[s.next].prev = s.prev
	}
	s.prev, s.next = -1, -1
}

// mappedBytes returns how much memory the arena has mapped.
func (a *arena) mappedBytes() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mapped
}

// close unmaps everything. No ref may be used afterwards.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, c := range *a.chunks.Load() {
		if i > 0 && c.mem != nil {
			unmapMemory(c.mem)
		}
	}
	a.chunks.Store(&[]chunk{{}})
	a.mapped = 0
}
