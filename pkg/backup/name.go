package backup

import (
	"strings"
	"time"

	"merklekv/pkg/internal/address"
)

const (
	// timeLayout is the time in a backup's name. All such times have one length and
	// sort as text.
	timeLayout = "20060102T150405.000Z"
	// partialPrefix begins the name of what is being made or removed. No node_id has
	// a tilde, so no backup's name begins so.
	partialPrefix = ".partial~"
)

// nameOf returns the name of a node's backup made at a time, which has whole
// milliseconds and is UTC.
func nameOf(nodeID string, at time.Time) string { return nodeID + "-" + at.Format(timeLayout) }

// parseName reads what nameOf wrote.
func parseName(name string) (nodeID string, at time.Time, ok bool) {
	cut := len(name) - len(timeLayout) - 1
	if cut < 1 || name[cut] != '-' || !address.IsNodeID(name[:cut]) {
		return "", time.Time{}, false
	}
	at, err := time.Parse(timeLayout, name[cut+1:])
	if err != nil || nameOf(name[:cut], at) != name {
		return "", time.Time{}, false
	}
	return name[:cut], at, true
}

// isPartialOf reports whether a name is that of a node's unfinished backup.
func isPartialOf(nodeID, name string) bool {
	rest, partial := strings.CutPrefix(name, partialPrefix)
	owner, _, ok := parseName(rest)
	return partial && ok && owner == nodeID
}
