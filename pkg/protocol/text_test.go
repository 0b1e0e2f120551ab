package protocol

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestAppendKey(t *testing.T) {
	tests := []struct{ key, want string }{
		{"plain:1", "plain:1"},
		{"50%", "50%"},
		{"grüße", "grüße"},
		{"a b", "a%20b"},
		{"a\r\nb%", "a%0D%0Ab%25"},
		{"\xff\x00", "%FF%00"},
		{"ü ", "%C3%BC%20"},
	}
	for _, tt := range tests {
		if got := string(AppendKey(nil, []byte(tt.key))); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.key, got, tt.want)
		}
	}
}

func TestListedKeysAreWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key")
		if listed := AppendKey(nil, key); CheckKey(listed) != nil {
			t.Fatalf("%q is listed as %q, which is no word", key, listed)
		}
	})
}

func TestEscapeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		escaped := AppendEscaped(nil, text)
		back, ok := Unescape(escaped)
		if !ok || !bytes.Equal(back, text) {
			t.Fatalf("%q became %q and then %q, %v", text, escaped, back, ok)
		}
	})
}

func TestUnescapeRefusesWhatNobodyEscaped(t *testing.T) {
	for _, text := range []string{"%", "%4", "%4x", "%0d", "%41", "a b", "\xff", "%%25"} {
		if got, ok := Unescape([]byte(text)); ok {
			t.Errorf("%q: %q", text, got)
		}
	}
}
