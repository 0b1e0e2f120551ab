package kv

// Logged is a change as the log of a replica tells of it, with what became of it
// when it arrived.
type Logged struct {
	Change
	// Lost says that a greater version of its (key, facet) was there already.
	Lost bool
	// Replaced is the version that it replaced; zero if it lost, if there was
	// none, or if it arrived a second time.
	Replaced Version
}
