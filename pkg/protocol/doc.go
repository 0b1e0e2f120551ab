// Package protocol turns bytes into requests and replies into bytes. It knows
// no sockets and no store.
//
// A request of the text protocol is one line:
//
//	NAME arg arg ... \r\n        words, parted by blanks
//	NAME key rest of line \r\n   a command whose last argument is verbatim
//
// [Parser] finds the requests in a buffer that fills up piece by piece. What a
// command is called, which arguments it takes and which of them are keys stands
// in one table ([Commands]); arity errors, documentation and dispatch all come
// from it. A command answers with a [Reply], which says what the answer is; a
// [Dialect] says how it looks on the wire. [Plain] is the text protocol's.
//
// PROTOCOL.md in this directory describes all of it for users.
package protocol
