package protocol

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Dialect writes replies as one kind of client reads them. A list is written as
// its head, its elements and its end, so that the caller can pause in between.
// The command may be nil where the request's was not known.
type Dialect interface {
	// Append appends a whole reply; of a List or Lines its head only.
	Append(dst []byte, c *Command, r *Reply) []byte
	// AppendElement appends an element of the reply r.
	AppendElement(dst []byte, c *Command, r, element *Reply) []byte
	// AppendEnd appends what follows the last element of r.
	AppendEnd(dst []byte, c *Command, r *Reply) []byte
}

// Plain is the text protocol's own reply style: bare values, one a line.
type Plain struct{}

var _ Dialect = Plain{}

const lineEnd = "\r\n"

// Append appends a whole reply, or the head of a list.
func (Plain) Append(dst []byte, c *Command, r *Reply) []byte {
	switch r.Kind {
	case Lines:
		if r.Text != "" {
			dst = append(append(dst, r.Text...), lineEnd...)
		}
		return dst
	case List:
		return appendPlainHead(dst, c, r)
	case Integer:
		return appendPlainInteger(dst, c, r)
	case Status:
		return appendPlainStatus(dst, c, r)
	}
	return appendPlainLine(dst, r)
}

// AppendElement appends an element as a line of its own.
func (Plain) AppendElement(dst []byte, _ *Command, _, element *Reply) []byte {
	return appendPlainLine(dst, element)
}

// AppendEnd appends the END of a report. A list said before how long it is.
func (Plain) AppendEnd(dst []byte, _ *Command, r *Reply) []byte {
	if r.Kind == Lines {
		dst = append(dst, "END"+lineEnd...)
	}
	return dst
}

func appendPlainHead(dst []byte, c *Command, r *Reply) []byte {
	if c.ID != CmdScan {
		return dst
	}
	dst = append(dst, "KEYS "...)
	dst = strconv.AppendInt(dst, r.Int, 10)
	if r.Bulk != nil {
		dst = append(dst, ' ')
		dst = append(dst, r.Bulk...)
	}
	return append(dst, lineEnd...)
}

func appendPlainInteger(dst []byte, c *Command, r *Reply) []byte {
	if c.ID == CmdDel {
		if r.Single && r.Int == 0 {
			return append(dst, "NOT_FOUND"+lineEnd...)
		}
		if r.Single {
			return append(dst, "DELETED"+lineEnd...)
		}
		dst = append(dst, "DELETED "...)
	}
	dst = strconv.AppendInt(dst, r.Int, 10)
	return append(dst, lineEnd...)
}

func appendPlainStatus(dst []byte, c *Command, r *Reply) []byte {
	if c != nil && c.ID == CmdVersion {
		dst = append(dst, "merklekv "...)
	}
	dst = append(dst, r.Text...)
	if len(r.Bulk) > 0 {
		dst = append(dst, ' ')
		dst = append(dst, r.Bulk...)
	}
	return append(dst, lineEnd...)
}

// appendPlainLine appends what looks the same alone and in a list.
func appendPlainLine(dst []byte, r *Reply) []byte {
	switch r.Kind {
	case Bulk:
		if !IsText(r.Bulk) {
			return appendPlainError(dst, ErrValueNotPrintable.Message)
		}
		dst = append(dst, r.Bulk...)
	case Null:
		dst = append(dst, "(null)"...)
	case Key:
		dst = AppendKey(dst, r.Bulk)
	case Line:
		dst = append(dst, r.Bulk...)
	case Failure:
		return appendPlainError(dst, r.Text)
	}
	return append(dst, lineEnd...)
}

// maxMessage is the longest message of an error, in bytes as sent.
const maxMessage = 512

// appendPlainError appends a message as one line, whatever is in it: some
// messages quote what other nodes say. A byte that is part of no printable
// character is sent as %XX.
func appendPlainError(dst []byte, message string) []byte {
	dst = append(dst, "ERROR: "...)
	for most := len(dst) + maxMessage; len(message) > 0; {
		r, size := utf8.DecodeRuneInString(message)
		before := len(dst)
		if unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			dst = append(dst, message[:size]...)
		} else {
			dst = appendHex(dst, message[:size])
		}
		if len(dst) > most {
			dst = dst[:before]
			break
		}
		message = message[size:]
	}
	return append(dst, lineEnd...)
}
