package protocol

import "errors"

// Error is what a client is told that asked for something impossible. The
// messages are fixed: clients match them.
type Error struct {
	Message string
	// Fatal says that the position of the next request is lost, so that the
	// connection is closed after the message.
	Fatal bool
}

func (e *Error) Error() string { return e.Message }

// ErrIncomplete is returned by a parser that needs more input.
var ErrIncomplete = errors.New("request is incomplete")

// Errors of a request that is malformed.
var (
	// ErrInvalidCommand is returned for a command that is not in the table.
	ErrInvalidCommand = &Error{Message: "Invalid command"}
	// ErrMissingArguments is returned for less than the command's arguments.
	ErrMissingArguments = &Error{Message: "Missing arguments"}
	// ErrTooManyArguments is returned for more than the command's arguments.
	ErrTooManyArguments = &Error{Message: "Too many arguments"}
	// ErrInvalidKey is returned for a key that is empty, not UTF-8 or has a
	// blank or a control character.
	ErrInvalidKey = &Error{Message: "Invalid key"}
	// ErrKeyTooLong is returned for a key of more than kv.MaxKeyLen bytes.
	ErrKeyTooLong = &Error{Message: "Key too long"}
	// ErrInvalidValue is returned for CR, NUL or invalid UTF-8 in an argument
	// that is no key.
	ErrInvalidValue = &Error{Message: "Invalid value"}
	// ErrInvalidArgument is returned for an option, a cursor or a count that
	// the command does not know.
	ErrInvalidArgument = &Error{Message: "Invalid argument"}
	// ErrRequestTooLong is returned for a line longer than the parser's limit.
	ErrRequestTooLong = &Error{Message: "Request too long", Fatal: true}
	// ErrUnfinished is returned for a line whose end does not come.
	ErrUnfinished = &Error{Message: "Incomplete request", Fatal: true}
	// ErrRESP is returned for a request in the Redis protocol. Its answer is
	// RESPRefusal, which such a client can read.
	ErrRESP = &Error{Message: "RESP is not supported yet", Fatal: true}
)

// Errors of a request that cannot be served.
var (
	// ErrValueTooLong is returned when a value has, or would get, more than
	// kv.MaxValueLen bytes.
	ErrValueTooLong = &Error{Message: "Value too long"}
	// ErrValueNotPrintable is returned for a value that a line cannot carry.
	ErrValueNotPrintable = &Error{Message: "Value not printable"}
	// ErrStorageFull is returned when the memory limit forbids a write.
	ErrStorageFull = &Error{Message: "Storage full"}
	// ErrNotAuthorized is returned for a command that is switched off.
	ErrNotAuthorized = &Error{Message: "Not authorized"}
	// ErrTooManyConnections is returned to a connection beyond the limit.
	ErrTooManyConnections = &Error{Message: "Too many connections", Fatal: true}
	// ErrBusy is returned to a request or an answer so large that the node found
	// no memory for it in time.
	ErrBusy = &Error{Message: "Too many large requests", Fatal: true}
	// ErrConnectionFailed is returned when another node cannot be reached.
	ErrConnectionFailed = &Error{Message: "Connection failed"}
	// ErrInterrupted is returned when the node stops before it has the answer.
	ErrInterrupted = &Error{Message: "Interrupted", Fatal: true}
	// ErrInternal is returned for a failure that is not the client's; the
	// node's log has it.
	ErrInternal = &Error{Message: "Internal error"}
)

// ReadOnly returns the error of a write that the node does not take at present.
func ReadOnly(why string) *Error { return &Error{Message: "Read only: " + why} }

// NotReady returns the error of a node that does not serve data yet.
func NotReady(why string) *Error { return &Error{Message: "Not ready: " + why} }

// SyncFailed returns the error of a session with another node that did not come
// to its end, or that the other refused.
func SyncFailed(why string) *Error { return &Error{Message: "Sync failed: " + why} }

// RESPRefusal answers a client of the Redis protocol, in its own form.
const RESPRefusal = "-ERR RESP is not supported yet; send one command a line as text, for example: GET key\r\n"
