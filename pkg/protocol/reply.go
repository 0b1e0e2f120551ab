package protocol

// Kind is what a reply is.
type Kind uint8

const (
	// Status is a fixed word in Text, such as OK; Bulk may add to it.
	Status Kind = iota
	// Null is the absence of a value.
	Null
	// Bulk is a value, in Bulk.
	Bulk
	// Integer is a number, in Int.
	Integer
	// Key is a key in a listing, in Bulk.
	Key
	// Line is a line of a report, in Bulk.
	Line
	// List is Int elements of Elements. Bulk, if not nil, is the cursor of the
	// next page.
	List
	// Lines is a report of as many elements as there are. Text, if not empty, is
	// a line before them.
	Lines
	// Failure is an error's message, in Text.
	Failure
)

// Elements yields the elements of a list one by one, so that a reply need not
// be in memory as a whole.
type Elements interface {
	// Next sets *r to the next element, or returns false when there are no
	// more. What r points to is valid until the next call.
	Next(r *Reply) bool
}

// Reply is the answer to one request, whatever it looks like on the wire. It is
// a plain struct so that a reply costs no allocation; Kind says which fields
// count.
type Reply struct {
	Kind Kind
	// Single says that the request named one key, where one and several are
	// answered in different words.
	Single   bool
	Int      int64
	Text     string
	Bulk     []byte
	Elements Elements
}

// StatusReply answers with a fixed word.
func StatusReply(word string) Reply { return Reply{Kind: Status, Text: word} }

// OK answers that it is done.
func OK() Reply { return StatusReply("OK") }

// NullReply answers that there is no value.
func NullReply() Reply { return Reply{Kind: Null} }

// BulkReply answers with a value.
func BulkReply(value []byte) Reply { return Reply{Kind: Bulk, Bulk: value} }

// IntegerReply answers with a number.
func IntegerReply(n int64) Reply { return Reply{Kind: Integer, Int: n} }

// ErrorReply answers with an error's message.
func ErrorReply(e *Error) Reply { return Reply{Kind: Failure, Text: e.Message} }
