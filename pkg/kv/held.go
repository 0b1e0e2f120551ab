package kv

// Held is an entry that a replica holds and whether it counts for a reader: as the
// value of its key.
type Held struct {
	Entry
	Visible bool
}

// HeldOf returns the entries of one key, with what View makes of them. They share
// the entries' memory.
func HeldOf(entries []Entry, mark Version, now int64) []Held {
	seen := View(entries, mark, now)
	held := make([]Held, len(entries))
	for i, e := range entries {
		held[i] = Held{Entry: e, Visible: seen.OK && len(e.Facet) == 0 && !e.IsReserved()}
	}
	return held
}
