// Command bench is the project's load generator. It speaks MerkleKV's text
// protocol and RESP by one code path, checks every reply, starts the servers it
// measures on free loopback ports, ends them by process id, and stops by itself.
//
//	go run ./test/bench [flags] [SCENARIO...]
//
//	load      closed-loop load against a server that already runs (-addr, -resp)
//	redis     one node beside Redis: SET and GET at pipeline 1, 16, 64
//	memory    resident bytes a key, one node beside Redis
//	index     bytes and time of the Merkle index
//	durable   one node with data on disk beside Redis with its append-only file: SET
//	start     from the start of a process until it serves what is on disk, beside Redis
//	disk      bytes on disk after ten overwrites of every key
//	latency   write on node1 until visible on node3, three processes and a broker
//	sustain   100,000 writes/s into three nodes, then gaps, dumps and lag
//	up        the cluster of the compose file, from no container until all are healthy
//	all       all of these but load and up: also when none is named
//
// The generator is one goroutine over epoll, so that on a small machine as much
// as possible is left for the server: it builds requests into, and checks
// replies in, buffers that live as long as their connection. Requests wait for
// their replies (closed loop), except in sustain and latency, where they are
// sent on a schedule whatever the replies do (open loop).
//
// A run fails when any reply is not the expected one. With -check it also fails
// when a figure misses its bound; sustain always fails when replicas differ.
package main
