package store

import (
	"encoding/binary"

	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
)

// A record is one entry as it lies in its slot:
//
//	 0  hlc        u64
//	 8  instance   u32   index into the table of instances
//	12  next       u32   ref of the next facet of the key, 0 for none
//	16  value len  u32
//	20  key len    u16
//	22  facet len  u8
//	23  flags      u8
//	24  key, facet, value, [expiresAt u64 with the flag]
//
// Little endian. All but next is immutable from the moment at which the record
// is in the log; next belongs to the key's shard and is guarded by its lock.
// The expiry comes last so that the key lies at the same place in every record.
type record []byte

const (
	headerSize = 24
	linkAt     = 12
)

var le = binary.LittleEndian

func (r record) hlc() hlc.Timestamp { return hlc.Timestamp(le.Uint64(r)) }
func (r record) instance() uint32   { return le.Uint32(r[8:]) }
func (r record) next() ref          { return ref(le.Uint32(r[linkAt:])) }
func (r record) valueLen() int      { return int(le.Uint32(r[16:])) }
func (r record) keyLen() int        { return int(le.Uint16(r[20:])) }
func (r record) facetLen() int      { return int(r[22]) }
func (r record) flags() kv.Flags    { return kv.Flags(r[23]) }

func (r record) setNext(next ref) { le.PutUint32(r[linkAt:], uint32(next)) }

// setVersion completes a record that fill made.
func (r record) setVersion(t hlc.Timestamp, instance uint32) {
	le.PutUint64(r, uint64(t))
	le.PutUint32(r[8:], instance)
}

func (r record) key() []byte { return r[headerSize : headerSize+r.keyLen()] }

func (r record) facet() []byte {
	start := headerSize + r.keyLen()
	return r[start : start+r.facetLen()]
}

func (r record) value() []byte {
	start := headerSize + r.keyLen() + r.facetLen()
	return r[start : start+r.valueLen()]
}

func (r record) expiresAt() int64 {
	if r.flags()&kv.HasExpiry == 0 {
		return 0
	}
	return int64(le.Uint64(r[headerSize+r.keyLen()+r.facetLen()+r.valueLen():]))
}

// size returns how many bytes the record has.
func (r record) size() int {
	return recordSize(r.keyLen(), r.facetLen(), r.valueLen(), r.flags())
}

// slotSize returns how many bytes the record's slot has.
func (r record) slotSize() int { return slotSize(r.size()) }

func recordSize(key, facet, value int, flags kv.Flags) int {
	size := headerSize + key + facet + value
	if flags&kv.HasExpiry != 0 {
		size += 8
	}
	return size
}

// entrySize returns the size of the record that e becomes.
func entrySize(e *kv.Entry) int {
	return recordSize(len(e.Key), len(e.Facet), len(e.Value), e.Flags)
}

// fill writes everything of e but its version.
func (r record) fill(e *kv.Entry) {
	r.setNext(0)
	le.PutUint32(r[16:], uint32(len(e.Value)))
	le.PutUint16(r[20:], uint16(len(e.Key)))
	r[22] = uint8(len(e.Facet))
	r[23] = uint8(e.Flags)
	n := headerSize
	n += copy(r[n:], e.Key)
	n += copy(r[n:], e.Facet)
	n += copy(r[n:], e.Value)
	if e.Flags&kv.HasExpiry != 0 {
		le.PutUint64(r[n:], uint64(e.ExpiresAt))
	}
}

// entry returns the record as an entry that shares its memory. The caller looks
// up the instance.
func (r record) entry(instance uint64) kv.Entry {
	return kv.Entry{
		Key: r.key(), Facet: r.facet(), Flags: r.flags(), Value: r.value(), ExpiresAt: r.expiresAt(),
		Version: kv.Version{HLC: r.hlc(), Instance: instance},
	}
}

// write puts e into a slot of its own, all but its version.
func (a *arena) write(e *kv.Entry) (ref, error) {
	r, err := a.alloc(entrySize(e))
	if err != nil {
		return 0, err
	}
	record(a.at(r)).fill(e)
	return r, nil
}
