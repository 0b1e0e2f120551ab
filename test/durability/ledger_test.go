package durability

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// after is what a node holds that has the first n steps of a ledger.
func after(l *ledger, n int) map[string]string {
	held := maps.Clone(l.base)
	for _, s := range l.sent[:n] {
		s.apply(held)
	}
	return held
}

// drawn is a ledger of some requests, of which some are acknowledged.
func drawn(t *rapid.T) *ledger {
	l := newLedger("c0")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	var ends []int // steps at the end of each request
	for range rapid.IntRange(1, 200).Draw(t, "requests") {
		l.draw(r, 16)
		ends = append(ends, len(l.sent))
	}
	l.acked = ends[rapid.IntRange(0, len(ends)-1).Draw(t, "acknowledged")]
	return l
}

func TestLedgerTakesWhatIsAcknowledgedAndMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawn(t)
		held := after(l, rapid.IntRange(l.acked, len(l.sent)).Draw(t, "kept"))
		if _, err := l.survive(held); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(l.base, held) || !maps.Equal(l.state, held) || len(l.sent) != 0 || l.acked != 0 {
			t.Fatal("the next conversation does not begin with what is held")
		}
	})
}

func TestLedgerRefusesLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawn(t)
		held := after(l, rapid.IntRange(0, l.acked).Draw(t, "kept"))
		for n := l.acked; n <= len(l.sent); n++ {
			if maps.Equal(held, after(l, n)) {
				t.Skip("what is missing makes no difference")
			}
		}
		if _, err := l.survive(held); err == nil {
			t.Fatal("nothing is missed")
		}
	})
}

// A key alone may be right and all together wrong: nobody ever saw that.
func TestLedgerRefusesMixedMoments(t *testing.T) {
	l := newLedger("c0")
	for _, s := range []step{{key: "c0:1", value: "a"}, {key: "c0:2", value: "b"}, {key: "c0:1", gone: true}} {
		l.send(request{steps: []step{s}})
	}
	l.acked = 1
	for _, tc := range []struct {
		held map[string]string
		want string
	}{
		{map[string]string{"c0:1": "a"}, ""},
		{map[string]string{"c0:2": "b"}, ""},
		{map[string]string{}, "order of writes"},
		{map[string]string{"c0:1": "a", "c0:2": "c"}, "never written"},
		{map[string]string{"c0:1": "a", "c0:3": ""}, "never written"},
	} {
		copied := *l
		copied.base = map[string]string{}
		_, err := copied.survive(tc.held)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.held, err, tc.want)
		}
	}
}
