package store

import "unsafe"

// table maps the hash of a key to the ref of its first record. It is open
// addressing with linear probing over 8-byte slots, ref above hash:
//
//	slot = ref (32 bits) << 32 | hash (32 bits)          0 = empty
//
// A key's home is hash * len / 2^32, so slots are ordered by hash up to the
// displacement that probing causes. That order is what lets an iteration go on
// after the table grew: its cursor is a hash, not a place.
type table struct {
	slots  []uint64
	mem    []byte // the mapping that slots lie in, nil if they are on the heap
	used   int
	growAt int
}

const (
	minSlots   = 16
	mappedFrom = 64 << 10 // bytes; smaller tables stay on the heap
)

func makeSlot(r ref, hash uint32) uint64 { return uint64(r)<<32 | uint64(hash) }
func slotRef(slot uint64) ref            { return ref(slot >> 32) }
func slotHash(slot uint64) uint32        { return uint32(slot) }

// home returns where the probe for a hash starts.
func (t *table) home(hash uint32) int { return int(uint64(hash) * uint64(len(t.slots)) >> 32) }

// find returns the slot of the key and its ref, or the slot in which it would go
// and 0. The table must have room.
func (t *table) find(a *arena, hash uint32, key []byte) (int, ref) {
	for i := t.home(hash); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		slot := t.slots[i]
		if slot == 0 {
			return i, 0
		}
		if slotHash(slot) == hash {
			if r := slotRef(slot); string(record(a.at(r)).key()) == string(key) {
				return i, r
			}
		}
	}
}

// reserve makes room for n more keys. Refs stay what they are, slots move.
func (t *table) reserve(n int) error {
	size := t.sizeFor(n)
	if size == len(t.slots) {
		return nil
	}
	old := *t
	slots, mem, err := makeSlots(size)
	if err != nil {
		return err
	}
	*t = table{slots: slots, mem: mem, used: old.used, growAt: size * 17 / 20}
	for _, slot := range old.slots {
		if slot != 0 {
			t.place(slot)
		}
	}
	old.release()
	return nil
}

// sizeFor returns how many slots the table has once there is room for n more keys.
func (t *table) sizeFor(n int) int {
	if t.used+n <= t.growAt {
		return len(t.slots)
	}
	size := max(minSlots, len(t.slots))
	for size*17/20 < t.used+n { // at most 85 % full
		size += max(size/4, minSlots)
	}
	return size
}

// growth returns the bytes that reserve takes for n more keys.
func (t *table) growth(n int) int64 { return int64(t.sizeFor(n)-len(t.slots)) * 8 }

// place puts a slot of a key that the table does not have.
func (t *table) place(slot uint64) {
	i := t.home(slotHash(slot))
	for t.slots[i] != 0 {
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	t.slots[i] = slot
}

// put sets slot i, which find returned. fresh says that it was empty.
func (t *table) put(i int, r ref, hash uint32, fresh bool) {
	t.slots[i] = makeSlot(r, hash)
	if fresh {
		t.used++
	}
}

func (t *table) bytes() int64 { return int64(len(t.slots)) * 8 }

func (t *table) release() {
	if t.mem != nil {
		unmapMemory(t.mem)
	}
	*t = table{}
}

func makeSlots(n int) (slots []uint64, mem []byte, err error) {
	if n*8 < mappedFrom {
		return make([]uint64, n), nil, nil
	}
	mem, err = mapMemory((n*8 + pageSize - 1) &^ (pageSize - 1))
	if err != nil {
		return nil, nil, err
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), n), mem, nil
}

// window appends to refs the slots of all keys whose hash is in [from, to),
// where to is chosen so that about want slots are looked at, and returns it; 0
// means that the end of the hashes was reached.
func (t *table) window(slots []uint64, from uint32, want int) (found []uint64, to uint32) {
	if len(t.slots) == 0 {
		return slots, 0
	}
	width := uint64(want) << 32 / uint64(len(t.slots))
	end := min(uint64(from)+max(width, 1), 1<<32)
	i := t.home(from)
	last := t.home(uint32(end - 1))
	for steps := 0; steps < len(t.slots); steps++ {
		slot := t.slots[i]
		if slot == 0 && steps >= last-t.home(from) {
			break
		}
		if h := uint64(slotHash(slot)); slot != 0 && h >= uint64(from) && h < end {
			slots = append(slots, slot)
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	return slots, uint32(end) // 1<<32 becomes 0
}
