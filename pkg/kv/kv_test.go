package kv

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"merklekv/pkg/hlc"
	"pgregory.net/rapid"
)

const t0 = int64(1_700_000_000_000)

// contenders draws entries of one (key, facet) close enough to collide in every
// way that entries can.
func contenders() *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		e := Entry{
			Key: []byte("k"),
			Version: Version{
				HLC:      hlc.At(t0) + hlc.Timestamp(rapid.IntRange(0, 2).Draw(t, "hlc")),
				Instance: rapid.Uint64Range(1, 3).Draw(t, "instance"),
			},
		}
		if rapid.Bool().Draw(t, "tombstone") {
			e.Flags = Tombstone
			return e
		}
		e.Value = []byte(rapid.StringN(0, 2, -1).Draw(t, "value"))
		if rapid.Bool().Draw(t, "expires") {
			e.Flags, e.ExpiresAt = HasExpiry, t0+rapid.Int64Range(0, 2).Draw(t, "at")
		}
		return e
	})
}

func same(a, b Entry) bool {
	return a.Version == b.Version && a.Flags == b.Flags && a.ExpiresAt == b.ExpiresAt && bytes.Equal(a.Value, b.Value)
}

func TestMergeIsCommutative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := contenders().Draw(t, "a"), contenders().Draw(t, "b")
		if ab, ba := Merge(a, b), Merge(b, a); !same(ab, ba) {
			t.Fatalf("a+b = %v, b+a = %v", ab, ba)
		}
		if Compare(&a, &b) != -Compare(&b, &a) {
			t.Fatalf("Compare(a, b) = %d, Compare(b, a) = %d", Compare(&a, &b), Compare(&b, &a))
		}
	})
}

func TestMergeIsAssociative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := contenders().Draw(t, "a"), contenders().Draw(t, "b"), contenders().Draw(t, "c")
		if left, right := Merge(Merge(a, b), c), Merge(a, Merge(b, c)); !same(left, right) {
			t.Fatalf("(a+b)+c = %v, a+(b+c) = %v", left, right)
		}
	})
}

func TestMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := contenders().Draw(t, "a"), contenders().Draw(t, "b")
		ab := Merge(a, b)
		if !same(Merge(a, a), a) || !same(Merge(ab, a), ab) || !same(Merge(ab, b), ab) {
			t.Fatalf("merging again changes %v", ab)
		}
	})
}

func TestMergeRules(t *testing.T) {
	at := func(ms int64, instance uint64) Version { return Version{HLC: hlc.At(ms), Instance: instance} }
	value := func(v Version, s string) Entry { return Entry{Version: v, Value: []byte(s)} }
	dead := func(v Version) Entry { return Entry{Version: v, Flags: Tombstone} }
	for name, c := range map[string]struct {
		winner, loser Entry
	}{
		"the later":                      {value(at(2, 1), "a"), value(at(1, 9), "b")},
		"the greater instance":           {value(at(1, 2), "a"), value(at(1, 1), "b")},
		"a later tombstone":              {dead(at(2, 1)), value(at(1, 1), "b")},
		"a later value over a tombstone": {value(at(2, 1), "a"), dead(at(1, 1))},
		"a tombstone of equal version":   {dead(at(1, 1)), value(at(1, 1), "b")},
	} {
		if Compare(&c.winner, &c.loser) != 1 || !same(Merge(c.loser, c.winner), c.winner) {
			t.Errorf("%s does not win", name)
		}
	}
}

func TestVersionText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) Version {
			return Version{HLC: hlc.Timestamp(rapid.Uint64().Draw(t, label)), Instance: rapid.Uint64().Draw(t, label)}
		}
		v, w := draw("v"), draw("w")
		if got, err := ParseVersion(v.String()); err != nil || got != v {
			t.Fatalf("ParseVersion(%q) = %v, %v", v, got, err)
		}
		if strings.Compare(v.String(), w.String()) != v.Compare(w) {
			t.Fatalf("%v and %v sort differently as text", v, w)
		}
	})
	for _, bad := range []string{"", "1-2", strings.Repeat("g", 16) + "-" + strings.Repeat("0", 16), strings.Repeat("0", 33)} {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("ParseVersion(%q) succeeds", bad)
		}
	}
}

func TestView(t *testing.T) {
	at := func(ms int64) Version { return Version{HLC: hlc.At(ms), Instance: 7} }
	live := Entry{Key: []byte("k"), Version: at(t0), Value: []byte("v")}
	expiring := live
	expiring.Flags, expiring.ExpiresAt = HasExpiry, t0+100
	dead := Entry{Key: []byte("k"), Version: at(t0), Flags: Tombstone}
	facet := Entry{Key: []byte("k"), Facet: []byte("z"), Version: at(t0 + 50), Value: []byte("other")}
	expiry := Version{HLC: hlc.At(t0 + 100)}
	for name, c := range map[string]struct {
		entries []Entry
		mark    Version
		now     int64
		ok      bool
		floor   Version
	}{
		"nothing":              {nil, Version{}, t0, false, Version{}},
		"a value":              {[]Entry{live}, Version{}, t0, true, at(t0)},
		"a tombstone":          {[]Entry{dead}, Version{}, t0, false, at(t0)},
		"a facet alone":        {[]Entry{facet}, Version{}, t0, false, Version{}},
		"a value and a facet":  {[]Entry{facet, live}, Version{}, t0, true, at(t0)},
		"not yet expired":      {[]Entry{expiring}, Version{}, t0 + 99, true, at(t0)},
		"expired":              {[]Entry{expiring}, Version{}, t0 + 100, false, expiry},
		"above the mark":       {[]Entry{live}, at(t0 - 1), t0, true, at(t0)},
		"at the mark":          {[]Entry{live}, at(t0), t0, false, at(t0)},
		"below the mark":       {[]Entry{live}, at(t0 + 1), t0, false, at(t0 + 1)},
		"mark without entries": {nil, at(t0), t0, false, at(t0)},
	} {
		v := View(c.entries, c.mark, c.now)
		if v.OK != c.ok || v.Floor != c.floor || c.ok && string(v.Value) != "v" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// Cut depends on the epoch alone, and hides what is dead for long enough.
func TestCut(t *testing.T) {
	const grace = 10
	epoch := hlc.At(t0).Epoch()
	at := func(offset int64) Version {
		return Version{HLC: hlc.At(t0 + offset*hlc.MillisPerEpoch), Instance: 7}
	}
	entries := []Entry{
		{Key: []byte("k"), Version: at(0), Value: []byte("v")},
		{Key: []byte("k"), Version: at(0), Flags: Tombstone},
		{Key: []byte("k"), Version: at(0), Flags: HasExpiry, ExpiresAt: t0 + 5*hlc.MillisPerEpoch},
		{Key: []byte("k"), Version: at(3), Value: []byte("later")},
		{Key: nil, Facet: []byte("m|node"), Version: at(0), Value: []byte("member")},
	}
	for name, c := range map[string]struct {
		mark Version
		e    int64
		want []bool
	}{
		"before all":         {Version{}, -1, []bool{false, false, false, false, false}},
		"at once":            {Version{}, 0, []bool{true, true, true, false, true}},
		"before the expiry":  {Version{}, 4, []bool{true, true, true, true, true}},
		"at the expiry":      {Version{}, 5, []bool{true, true, false, true, true}},
		"before the grace":   {Version{}, grace - 1, []bool{true, true, false, true, true}},
		"after the grace":    {Version{}, grace, []bool{true, false, false, true, true}},
		"killed by the mark": {at(1), 4, []bool{false, false, false, true, true}},
	} {
		if got := Cut(entries, c.mark, grace, epoch+c.e); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Entry{Key: []byte("k"), Version: Version{HLC: 1, Instance: 1}, Value: []byte("v")}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Entry)
		want   error
	}{
		"long key":              {func(e *Entry) { e.Key = make([]byte, MaxKeyLen+1) }, ErrKeyTooLong},
		"long facet":            {func(e *Entry) { e.Facet = make([]byte, MaxFacetLen+1) }, ErrInvalidEntry},
		"no name":               {func(e *Entry) { e.Key = nil }, ErrInvalidEntry},
		"long value":            {func(e *Entry) { e.Value = make([]byte, MaxValueLen+1) }, ErrValueTooLong},
		"unknown flag":          {func(e *Entry) { e.Flags = 0x80 }, ErrInvalidEntry},
		"tombstone with value":  {func(e *Entry) { e.Flags = Tombstone }, ErrInvalidEntry},
		"expiry without flag":   {func(e *Entry) { e.ExpiresAt = 5 }, ErrInvalidEntry},
		"expiry out of range":   {func(e *Entry) { e.Flags, e.ExpiresAt = HasExpiry, MaxExpiry+1 }, ErrInvalidEntry},
		"negative expiry":       {func(e *Entry) { e.Flags, e.ExpiresAt = HasExpiry, -1 }, ErrInvalidEntry},
		"version without clock": {func(e *Entry) { e.Version.HLC = 0 }, ErrInvalidEntry},
		"version of nobody":     {func(e *Entry) { e.Version.Instance = 0 }, ErrInvalidEntry},
	} {
		e := good.Clone()
		c.change(&e)
		if err := e.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	e := Entry{Key: []byte("key"), Facet: []byte("facet"), Value: []byte("value"), Version: Version{HLC: 1, Instance: 2}}
	c := e.Clone()
	e.Key[0], e.Facet[0], e.Value[0] = 'X', 'X', 'X'
	if string(c.Key) != "key" || string(c.Facet) != "facet" || string(c.Value) != "value" || c.Version != e.Version {
		t.Errorf("the clone changed with its original: %q %q %q", c.Key, c.Facet, c.Value)
	}
}

func TestHeldOfMarksWhatReadersSee(t *testing.T) {
	entry := func(key, facet string, millis int64) Entry {
		return Entry{Key: []byte(key), Facet: []byte(facet), Version: Version{HLC: hlc.At(millis), Instance: 1}}
	}
	tests := []struct {
		name    string
		entries []Entry
		mark    Version
		want    string // a letter for each entry
	}{
		{"nothing", nil, Version{}, ""},
		{"a value and other facets", []Entry{entry("k", "x", 5), entry("k", "", 5)}, Version{}, "-v"},
		{"truncated", []Entry{entry("k", "", 5)}, Version{HLC: hlc.At(5), Instance: 1}, "-"},
		{"reserved", []Entry{entry("", "t", 5), entry("", "mn1", 5)}, Version{}, "--"},
	}
	for _, tt := range tests {
		got := ""
		for _, h := range HeldOf(tt.entries, tt.mark, 10) {
			got += map[bool]string{true: "v", false: "-"}[h.Visible]
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
