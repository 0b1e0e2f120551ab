package protocol

import (
	"bytes"
	"unicode/utf8"

	"merklekv/pkg/kv"
)

// CheckKey returns ErrInvalidKey or ErrKeyTooLong if the text protocol cannot
// carry the key: a key has 1 to kv.MaxKeyLen bytes of UTF-8 without blanks and
// control characters.
func CheckKey(key []byte) error {
	if len(key) == 0 {
		return ErrInvalidKey
	}
	if len(key) > kv.MaxKeyLen {
		return ErrKeyTooLong
	}
	for i, c := range key {
		if c <= ' ' || c == 0x7f {
			return ErrInvalidKey
		}
		if c >= utf8.RuneSelf {
			return checkUnicode(key[i:])
		}
	}
	return nil
}

// checkUnicode is CheckKey for a text that is not only ASCII.
func checkUnicode(text []byte) error {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		invalid := r == utf8.RuneError && size == 1
		control := r <= ' ' || 0x7f <= r && r <= 0x9f
		if invalid || control {
			return ErrInvalidKey
		}
		text = text[size:]
	}
	return nil
}

// IsText reports whether a line can carry the value: UTF-8 without CR, LF and
// NUL.
func IsText(value []byte) bool {
	return utf8.Valid(value) &&
		bytes.IndexByte(value, '\r') < 0 &&
		bytes.IndexByte(value, '\n') < 0 &&
		bytes.IndexByte(value, 0) < 0
}

const hexDigits = "0123456789ABCDEF"

// AppendKey appends a key as a listing shows it: as it is where a line can carry
// it, else percent-escaped.
func AppendKey(dst, key []byte) []byte {
	if CheckKey(key) == nil {
		return append(dst, key...)
	}
	return AppendEscaped(dst, key)
}

// AppendEscaped appends text with every byte that is not printable ASCII, and
// the per cent sign, as %XX. Different texts have different escaped forms.
func AppendEscaped(dst, text []byte) []byte {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == '%' {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// appendHex appends every byte of text as %XX.
func appendHex(dst []byte, text string) []byte {
	for i := range len(text) {
		dst = append(dst, '%', hexDigits[text[i]>>4], hexDigits[text[i]&15])
	}
	return dst
}

// Unescape returns what AppendEscaped was given. It returns false for a text
// that AppendEscaped did not write.
func Unescape(escaped []byte) ([]byte, bool) {
	text := make([]byte, 0, len(escaped))
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c != '%' {
			text = append(text, c)
			continue
		}
		if i+2 >= len(escaped) {
			return nil, false
		}
		high := bytes.IndexByte([]byte(hexDigits), escaped[i+1])
		low := bytes.IndexByte([]byte(hexDigits), escaped[i+2])
		if high < 0 || low < 0 {
			return nil, false
		}
		text = append(text, byte(high<<4|low))
		i += 2
	}
	return text, bytes.Equal(AppendEscaped(nil, text), escaped)
}
