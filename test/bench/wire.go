package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// replyKind says what a reply is, as far as a load generator cares.
type replyKind uint8

const (
	replyText  replyKind = iota // a status, a number or a value
	replyNull                   // there is no such key
	replyError                  // the server refused
)

// reply is one reply. The body points into the input.
type reply struct {
	kind replyKind
	body []byte
}

// errProtocol is returned when the input cannot be a reply.
var errProtocol = errors.New("not a reply")

// dialect is all that differs between the two protocols.
type dialect interface {
	// AppendSet and AppendGet append one request.
	AppendSet(dst, key, value []byte) []byte
	AppendGet(dst, key []byte) []byte
	// Next returns the first reply of the input and how many bytes it took, 0
	// when the reply is not complete yet.
	Next(in []byte) (r reply, n int, err error)
}

// textDialect is MerkleKV's own protocol in its plain style.
type textDialect struct{}

func (textDialect) AppendSet(dst, key, value []byte) []byte {
	dst = append(dst, "SET "...)
	dst = append(dst, key...)
	dst = append(dst, ' ')
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

func (textDialect) AppendGet(dst, key []byte) []byte {
	dst = append(dst, "GET "...)
	dst = append(dst, key...)
	return append(dst, '\r', '\n')
}

func (textDialect) Next(in []byte) (reply, int, error) {
	line, n := nextLine(in)
	if n == 0 {
		return reply{}, 0, nil
	}
	switch {
	case string(line) == "(null)":
		return reply{kind: replyNull}, n, nil
	case bytes.HasPrefix(line, []byte("ERROR: ")):
		return reply{kind: replyError, body: line}, n, nil
	default:
		return reply{body: line}, n, nil
	}
}

// respDialect is RESP2, as Redis speaks it.
type respDialect struct{}

func (respDialect) AppendSet(dst, key, value []byte) []byte {
	dst = append(dst, "*3\r\n$3\r\nSET\r\n"...)
	dst = appendBulk(dst, key)
	return appendBulk(dst, value)
}

func (respDialect) AppendGet(dst, key []byte) []byte {
	dst = append(dst, "*2\r\n$3\r\nGET\r\n"...)
	return appendBulk(dst, key)
}

func appendBulk(dst, b []byte) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(len(b)), 10)
	dst = append(dst, '\r', '\n')
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

func (respDialect) Next(in []byte) (reply, int, error) {
	line, n := nextLine(in)
	if n == 0 {
		return reply{}, 0, nil
	}
	if len(line) == 0 {
		return reply{}, 0, fmt.Errorf("%w: an empty line", errProtocol)
	}
	switch line[0] {
	case '+', ':':
		return reply{body: line[1:]}, n, nil
	case '-':
		return reply{kind: replyError, body: line[1:]}, n, nil
	case '$':
		return nextBulk(in, line[1:], n)
	default:
		return reply{}, 0, fmt.Errorf("%w: %.40q", errProtocol, line)
	}
}

// maxBulk is the longest value that the generator asks for.
const maxBulk = 1 << 20

// nextBulk reads a bulk string whose length line took the first n bytes.
func nextBulk(in, length []byte, n int) (reply, int, error) {
	size, err := strconv.Atoi(string(length)) // does not escape: no allocation
	if err != nil || size < -1 || size > maxBulk {
		return reply{}, 0, fmt.Errorf("%w: bulk length %.40q", errProtocol, length)
	}
	if size == -1 {
		return reply{kind: replyNull}, n, nil
	}
	end := n + size
	if len(in) < end+2 {
		return reply{}, 0, nil
	}
	if in[end] != '\r' || in[end+1] != '\n' {
		return reply{}, 0, fmt.Errorf("%w: bulk of %d bytes does not end there", errProtocol, size)
	}
	return reply{body: in[n:end]}, end + 2, nil
}

// nextLine returns the first line without its end, and how many bytes it took
// with it, 0 when there is no whole line yet.
func nextLine(in []byte) (line []byte, n int) {
	i := bytes.IndexByte(in, '\n')
	if i < 0 {
		return nil, 0
	}
	return bytes.TrimSuffix(in[:i], []byte{'\r'}), i + 1
}
