// Package durability kills nodes and looks what they still know.
//
// A node of its own, the real program in a child process, is written to over several
// connections, ended by SIGKILL at a moment that is drawn, and started again. Every
// write that was acknowledged must be there.
//
// Nobody but one connection writes its keys, so what the node should hold is known to
// the last byte: the journal keeps the order of writes, so after a crash a connection's
// keys must be as they were after some of its writes, all that were acknowledged among
// them and none beyond those that were sent.
//
//	go test ./test/durability                                      some kills of each mode
//	go test ./test/durability -durability.kills 300                as many as CI has
//	go test ./test/durability -durability.seed 7 -durability.kills 300
//
// The seed draws what is written and when the child is killed, not how its threads
// run: the same seed makes the same plan, not the same crash. The data directory of a
// failure is kept and its path printed.
package durability
