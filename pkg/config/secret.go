package config

import (
	"fmt"
	"log/slog"
)

// mask is what a Secret shows of itself.
const mask = "****"

// Secret is text that no log, error or listing may show. Whatever way it is
// formatted or marshalled it gives a mask, or nothing when it is empty; only
// Reveal gives the text.
type Secret string

// Reveal returns the text itself, for whoever has to use it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) masked() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format writes the mask for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.masked()) }

// String returns the mask.
func (s Secret) String() string { return s.masked() }

// MarshalText returns the mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.masked()), nil }

// LogValue returns the mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.masked()) }
