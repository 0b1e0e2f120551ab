package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// longestName bounds what is compared and repeated of an unknown name, in bytes.
const longestName = 80

// oneLine makes a name that somebody invented fit for a message.
func oneLine(name string) string {
	if len(name) > longestName {
		name = name[:longestName] + "..."
	}
	quoted := strconv.Quote(name)
	return quoted[1 : len(quoted)-1]
}

// nearestKey returns the key whose name is most like the unknown one. A right
// name in a wrong section is near, too.
func nearestKey(unknown string, keys map[string]Key) string {
	best, least := "", 0
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		d := min(distance(unknown, name), 1+distance(lastPart(unknown), lastPart(name)))
		if best == "" || d < least {
			best, least = name, d
		}
	}
	return best
}

// Nearest returns the valid name that is most like the unknown one, empty if
// there is none.
func Nearest(unknown string, valid []string) string {
	best, least := "", 0
	for _, name := range slices.Sorted(slices.Values(valid)) {
		if d := distance(unknown, name); best == "" || d < least {
			best, least = name, d
		}
	}
	return best
}

func lastPart(name string) string {
	return name[strings.LastIndexByte(name, '.')+1:]
}

// distance is the Levenshtein distance in bytes of the first longestName bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), longestName)], b[:min(len(b), longestName)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
