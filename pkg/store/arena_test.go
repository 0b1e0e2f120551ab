package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestClassesCoverAllSizesWithLittleWaste(t *testing.T) {
	last := class(0)
	for size := 1; size <= maxClassSize; size++ {
		c := classOf(size)
		if c.size() < size {
			t.Fatalf("class %d holds %d bytes, less than the %d asked for", c, c.size(), size)
		}
		if c > 0 && (c-1).size() >= size {
			t.Fatalf("%d bytes went to class %d of %d bytes, but the one below has %d", size, c, c.size(), (c - 1).size())
		}
		if waste := c.size() - size; size >= 64 && waste*8 > size {
			t.Fatalf("%d bytes waste %d in class %d", size, waste, c)
		}
		last = max(last, c)
	}
	if int(last)+1 != numClasses {
		t.Fatalf("%d classes are in use, %d defined", last+1, numClasses)
	}
}

// A slot belongs to one owner: whatever is allocated and freed in whatever
// order, nobody's bytes change, and everything is given back in the end.
func TestArenaSlotsNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newArena()
		defer a.close()
		type object struct {
			ref  ref
			size int
			fill byte
		}
		var live []object
		check := func(o object) {
			if !bytes.Equal(a.at(o.ref)[:o.size], bytes.Repeat([]byte{o.fill}, o.size)) {
				t.Fatalf("a %d-byte slot no longer holds what its owner wrote", o.size)
			}
		}
		sizes := rapid.OneOf(rapid.IntRange(24, 300), rapid.IntRange(24, 9_000), rapid.Just(maxClassSize+1), rapid.Just(chunkSize))
		for i := range rapid.IntRange(1, 100).Draw(t, "steps") {
			if len(live) > 0 && rapid.Bool().Draw(t, "free") {
				j := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				check(live[j])
				a.free(live[j].ref, live[j].size)
				live[j] = live[len(live)-1]
				live = live[:len(live)-1]
				continue
			}
			o := object{size: sizes.Draw(t, "size"), fill: byte(i + 1)}
			var err error
			if o.ref, err = a.alloc(o.size); err != nil || o.ref == 0 {
				t.Fatalf("alloc(%d) = %d, %v", o.size, o.ref, err)
			}
			copy(a.at(o.ref), bytes.Repeat([]byte{o.fill}, o.size))
			live = append(live, o)
		}
		for _, o := range live {
			check(o)
			a.free(o.ref, o.size)
		}
		used := 0
		for i := range a.spans {
			used += int(a.spans[i].used)
		}
		if used != 0 {
			t.Fatalf("%d slots are in use after all were freed", used)
		}
	})
}

func TestArenaReusesWhatWasFreed(t *testing.T) {
	a := newArena()
	defer a.close()
	for _, size := range []int{100, 5_000, maxClassSize, maxClassSize + 1} {
		var refs []ref
		fill := func() {
			for range 40 {
				r, err := a.alloc(size)
				if err != nil {
					t.Fatal(err)
				}
				refs = append(refs, r)
			}
		}
		fill()
		high := a.mappedBytes()
		for range 10 {
			for _, r := range refs {
				a.free(r, size)
			}
			refs = refs[:0]
			fill()
		}
		if got := a.mappedBytes(); got != high {
			t.Errorf("size %d: %d bytes mapped after ten rounds, %d after the first", size, got, high)
		}
		for _, r := range refs {
			a.free(r, size)
		}
	}
}
