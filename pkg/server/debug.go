package server

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
)

// debug shows all that is held of a key, a section for each facet.
func (s *session) debug(args [][]byte) protocol.Reply {
	if !protocol.IsWord(args[0], "KEY") {
		return s.invalidArgument()
	}
	held := s.env.store.Held(args[1])
	if len(held) == 0 {
		return protocol.NullReply()
	}
	slices.SortFunc(held, func(a, b kv.Held) int { return bytes.Compare(a.Facet, b.Facet) })
	sections := make([]Section, len(held))
	for i := range held {
		name := protocol.AppendEscaped([]byte("facet "), held[i].Facet)
		sections[i] = Section{Name: string(bytes.TrimRight(name, " ")), Fields: heldFields(&held[i])}
	}
	return protocol.Reply{Kind: protocol.Lines, Elements: &sectionLines{sections: sections}}
}

func heldFields(h *kv.Held) []Field {
	expires := "never"
	if h.Flags&kv.HasExpiry != 0 {
		expires = wallTime(h.ExpiresAt)
	}
	tag := merkle.TagOf(&h.Entry)
	return []Field{
		{"version", h.Version.String()},
		{"instance", fmt.Sprintf("%016x", h.Version.Instance)},
		{"written", wallTime(h.Version.HLC.Millis())},
		number("epoch", h.Version.Epoch()),
		{"flags", flagNames(h.Flags)},
		{"expires", expires},
		number("value_bytes", int64(len(h.Value))),
		{"tag", hex.EncodeToString(tag[:])},
		{"visible", strconv.FormatBool(h.Visible)},
	}
}

// flagNames lists the flags of an entry, "none" if it has none.
func flagNames(f kv.Flags) string {
	var names []string
	if f&kv.Tombstone != 0 {
		names = append(names, "tombstone")
	}
	if f&kv.HasExpiry != 0 {
		names = append(names, "expiry")
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}
