// Package antientropy finds out whether replicas are equal, and makes them so.
//
// Messages get lost: a broker drops them, a node was cut off, paused or started
// empty. This package does not care why. The [Index] keeps, for each of the last
// closed epochs, the set of all entries as a hash trie, so that two nodes which
// received the same have the same root, under any load; roots travel in the heads
// that package replication exchanges. The [Planner] looks at them and decides with
// whom to run a session, and when. A [Session] finds what differs by comparing
// salted fingerprints of ranges, and exchanges the entries of the keys that do, in
// both directions. [Converged] says whether all replicas are equal, by an exact
// rule, and that it does not know where that is so.
//
// All four are state machines without clock, socket or goroutine. The [Repairer]
// feeds them.
//
// DESIGN.md explains epochs and the planner, SESSION.md draws the session.
package antientropy
