package main

import (
	"fmt"
	"hash/crc64"
	"io"
	"time"
)

// trace is what happened in a run: hashed, and printed when somebody wants to
// read it. Two runs of one seed have the same hash.
type trace struct {
	hash uint64
	out  io.Writer // nil: nobody reads it
	loop *loop
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

var crcTable = crc64.MakeTable(crc64.ECMA)

func (t *trace) mix(n uint64) {
	for range 8 {
		t.hash = (t.hash ^ n&0xff) * fnvPrime
		n >>= 8
	}
}

// note records that something happened, with numbers that tell it apart.
func (t *trace) note(what string, numbers ...uint64) {
	t.mix(uint64(t.loop.now))
	for i := range len(what) {
		t.hash = (t.hash ^ uint64(what[i])) * fnvPrime
	}
	for _, n := range numbers {
		t.mix(n)
	}
	if t.out != nil {
		fmt.Fprintf(t.out, "%s %s", t.stamp(), what)
		for _, n := range numbers {
			if n > 1<<32 {
				fmt.Fprintf(t.out, " %016x", n)
			} else {
				fmt.Fprintf(t.out, " %d", n)
			}
		}
		fmt.Fprintln(t.out)
	}
}

// say is note for what is rare enough to be told in words.
func (t *trace) say(format string, args ...any) { t.note(fmt.Sprintf(format, args...)) }

func (t *trace) stamp() string {
	return fmt.Sprintf("%10.4f", float64(t.loop.now)/float64(time.Second))
}

// sum stands for the content of a message.
func sum(b []byte) uint64 { return crc64.Checksum(b, crcTable) }
