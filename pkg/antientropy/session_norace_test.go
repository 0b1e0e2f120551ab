//go:build !race

package antientropy

// raceEnabled says that the race detector is on, under which sets of a million
// keys take too long.
const raceEnabled = false
