//go:build race

package disk_test

// Under the race detector the tests that open thousands of journals take a sample:
// `make kills` runs them whole.
const raceEnabled = true
