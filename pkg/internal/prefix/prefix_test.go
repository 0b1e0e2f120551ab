package prefix

import (
	"bytes"
	"cmp"
	"testing"

	"pgregory.net/rapid"
)

func key(t *rapid.T, name string) []byte {
	return []byte(rapid.StringOfN(rapid.RuneFrom([]rune{'a', 'b', 0, 'ÿ'}), 0, 20, -1).Draw(t, name))
}

func TestShared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin, a, b := key(t, "begin"), key(t, "a"), key(t, "b")
		a, b = append(bytes.Clone(begin), a...), append(bytes.Clone(begin), b...)
		n := Shared(a, b)
		if !bytes.Equal(a[:n], b[:n]) || n < len(a) && n < len(b) && a[n] == b[n] {
			t.Fatalf("%q and %q share %d bytes", a, b, n)
		}
	})
}

func TestHeadSortsLikeKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := key(t, "a"), key(t, "b")
		if c := cmp.Compare(Head(a), Head(b)); c != 0 && c != bytes.Compare(a, b) {
			t.Fatalf("%q and %q have heads that sort as %d", a, b, c)
		}
	})
}
