package replication

import (
	"cmp"
	"slices"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// vectorItems returns the prefixes of a vector that are not empty, by ascending
// instance.
func vectorItems(v *vector.Vector) []protocol.VectorItem {
	items := make([]protocol.VectorItem, 0, v.Len())
	for _, id := range v.Instances() {
		if m := v.Prefix(id); m.Seq > 0 {
			items = append(items, protocol.VectorItem{Instance: id, Seq: m.Seq, HLC: uint64(m.HLC)})
		}
	}
	return items
}

// vectorSpans returns what was received above gaps, at most limit runs.
func vectorSpans(v *vector.Vector, limit int) []protocol.VectorSpan {
	var spans []protocol.VectorSpan
	for _, id := range v.Instances() {
		for low, high := range v.Runs(id) {
			if len(spans) == limit {
				return spans
			}
			spans = append(spans, protocol.VectorSpan{Instance: id, Low: low, High: high})
		}
	}
	return spans
}

// vectorOf builds a vector from what a peer sent, for asking Contains and Prefix.
func vectorOf(items []protocol.VectorItem, spans []protocol.VectorSpan) *vector.Vector {
	v := vector.New()
	for _, it := range items {
		v.Adopt(it.Instance, vector.Mark{Seq: it.Seq, HLC: hlc.Timestamp(it.HLC)})
	}
	slices.SortFunc(spans, func(a, b protocol.VectorSpan) int { return cmp.Compare(a.Low, b.Low) })
	for _, s := range spans {
		v.AppendRun(s.Instance, s.Low, s.High) // what overlaps is left out, and sent again
	}
	return v
}
