// Package server is the TCP listener of a node: it accepts connections, keeps
// them within limits, and answers the requests of package protocol from a
// [Store].
//
//	Listen -> Serve -> accept -> conn (socket, one goroutine) -> session -> Store
//	                      \-> sweep (timeouts, once a second)
//
// A session is one connection's side of the protocol without the socket: it
// executes all requests that its input holds, and then wants input, a flush or
// an end. A conn drives it. All requests of one read are executed, the greatest
// commit ticket of their writes is waited for once, and their replies leave in
// one write.
//
// What holds:
//   - A plain GET or SET takes no lock, channel or timer of this package, and a
//     GET allocates nothing. Timeouts are enforced by a sweeper that looks at
//     one atomic word of each connection.
//   - Input memory: 4 KiB a connection, 16 KiB once it fills that; a longer
//     request needs one of a fixed number of slots for the whole server.
//   - Output memory: 64 KiB and one value a connection. Longer replies are made
//     while they are written, so a client that does not read stalls only
//     itself.
//   - No reply to a write leaves before its ticket is durable.
//   - Close returns when no goroutine of the server runs any more.
package server
