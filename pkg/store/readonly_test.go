package store

import (
	"errors"
	"slices"
	"testing"

	"merklekv/pkg/kv"
	"pgregory.net/rapid"
)

// Sources that do not know of each other do not undo each other's refusals, and
// the reason that came up first is told.
func TestReasonsAgainstWritesBelongToTheirSources(t *testing.T) {
	s, _ := newStore(t, Options{})
	for i, step := range []struct{ source, why, want string }{
		{"disk", "", ""},
		{"disk", "disk full", "disk full"},
		{"rival", "node_id in use", "disk full"},
		{"disk", "disk full", "disk full"},
		{"disk", "", "node_id in use"},
		{"disk", "disk full", "node_id in use"},
		{"rival", "node_id in use elsewhere", "node_id in use elsewhere"},
		{"rival", "", "disk full"},
		{"other", "", "disk full"},
		{"disk", "", ""},
		{"disk", "", ""},
	} {
		s.SetReadOnly(step.source, step.why)
		_, err := s.Set([]byte("k"), nil)
		var refused *kv.ReadOnlyError
		switch {
		case step.want == "" && err != nil:
			t.Errorf("step %d: a write fails with %v", i, err)
		case step.want != "" && (!errors.As(err, &refused) || refused.Why != step.want):
			t.Errorf("step %d: a write gives %v, want %q", i, err, step.want)
		}
	}
}

// Writes are taken exactly when no source has a reason.
func TestReasonsAgainstWritesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r readOnly
		var order []string // sources with a reason, the oldest first
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			source := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "source")
			i := slices.Index(order, source)
			if rapid.Bool().Draw(t, "full") {
				r.set(source, "of "+source)
				if i < 0 {
					order = append(order, source)
				}
			} else {
				r.set(source, "")
				if i >= 0 {
					order = slices.Delete(order, i, i+1)
				}
			}
			want := ""
			if len(order) > 0 {
				want = "read only: of " + order[0]
			}
			got := ""
			if err := r.err(); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	})
}
