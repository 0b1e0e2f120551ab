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
//     request claims its buffer from a budget of the whole server.
//   - Output memory: 64 KiB and one value a connection. Longer replies are made
//     while they are written, so a client that does not read stalls only
//     itself. Values of more than 64 KiB and listings claim what they take
//     from a second budget.
//   - Who claims from a budget that is used up waits in line, for the connection
//     timeout at most. Meanwhile connections that hold some of it and move
//     nothing for a sixth of that time are closed. A client waits for answers
//     only while it holds input, never the reverse, and one claim at a time may
//     go beyond its budget, so waiting always ends.
//   - A request that waits for other nodes or for the index runs outside of the
//     session; the connection reads ahead meanwhile, to notice when it breaks. No
//     timeout but that of the call itself ends it.
//   - No reply to a write leaves before its ticket is durable.
//   - Close returns when no goroutine of the server runs any more.
package server
