package store

import (
	"slices"
	"testing"

	"merklekv/pkg/hlc"
)

func TestOwnMarksAreTheEndsOfEpochs(t *testing.T) {
	s, clock := newStore(t, Options{Instance: 1})
	now := testStart
	read := func() (marks []ownMark) {
		s.OwnMarks(func(seq uint64, clock hlc.Timestamp) { marks = append(marks, ownMark{seq, clock}) })
		return marks
	}
	if got := read(); got != nil {
		t.Fatalf("marks of an empty store: %v", got)
	}
	ends := make(map[int64]ownMark) // by epoch, the model
	var epochs []int64
	for i := range 40 {
		now += int64(i%5) * hlc.MillisPerEpoch / 3
		clock.set(now)
		mustSet(t, s, "k", "v")
		s.Apply(remote(2, uint64(i+1), now, "other", "v")) // is no local change
		seq, stamp := s.LastSeq()
		ends[stamp.Epoch()] = ownMark{seq, stamp}
		if n := len(epochs); n == 0 || epochs[n-1] != stamp.Epoch() {
			epochs = append(epochs, stamp.Epoch())
		}
		var want []ownMark
		for _, e := range epochs[max(0, len(epochs)-keptMarks-1):] {
			want = append(want, ends[e])
		}
		if got := read(); !slices.Equal(got, want) {
			t.Fatalf("after %d changes in %d epochs: marks %v, want %v", i+1, len(epochs), got, want)
		}
	}
	if len(epochs) <= keptMarks+1 {
		t.Fatalf("%d epochs are too few to forget one", len(epochs))
	}
}
