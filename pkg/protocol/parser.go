package protocol

import "bytes"

// keptWords is how many arguments a parser keeps room for between requests.
const keptWords = 1024

// Request is one command with its arguments, which are checked: their number
// fits, keys are keys, and the rest is text.
type Request struct {
	// Command is the row of the table; nil where the command is not known. It
	// is set also where the arguments were wrong.
	Command *Command
	// Args point into the parser's input and are valid until its next call.
	Args [][]byte
}

// Parser finds text requests in a connection's input. The zero Parser refuses
// everything; use NewParser. It is not for use by several goroutines.
type Parser struct {
	limit int
	// seen is how many bytes at the start of the input are known to hold no
	// line end, so that a long line that arrives in pieces is searched once.
	seen int
	args [][]byte
}

// NewParser returns a parser that takes lines of at most limit bytes, without
// the line end.
func NewParser(limit int) Parser { return Parser{limit: limit} }

// Next returns the first request of the input and how many bytes it and the
// empty lines before it took. The next call's input begins behind them; until
// bytes are taken, it may only grow at its end.
//
// The error is ErrIncomplete when the input holds no whole request (n may be
// greater than 0 even so), or an *Error, whose message is the answer to the n
// bytes taken.
func (p *Parser) Next(input []byte) (req Request, n int, err error) {
	for {
		line, used, err := p.line(input[n:])
		n += used
		if err != nil {
			return Request{}, n, err
		}
		line = trimBlanks(line)
		if len(line) > 0 {
			req, err = p.parse(line)
			return req, n, err
		}
	}
}

// line returns the first line of the input without its end, and the bytes that
// it takes with it.
func (p *Parser) line(input []byte) (line []byte, used int, err error) {
	if len(input) > 0 && input[0] == '*' {
		return nil, 0, ErrRESP
	}
	i := bytes.IndexByte(input[p.seen:], '\n')
	if i < 0 {
		if len(input) > p.limit+1 { // more than a full line and its CR
			return nil, 0, ErrRequestTooLong
		}
		p.seen = len(input)
		return nil, 0, ErrIncomplete
	}
	line = input[:p.seen+i]
	p.seen = 0
	used = len(line) + 1
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	if len(line) > p.limit {
		return nil, 0, ErrRequestTooLong
	}
	return line, used, nil
}

// parse reads a line that is neither empty nor begins with a blank.
func (p *Parser) parse(line []byte) (Request, error) {
	name, rest := cutWord(line)
	c := Lookup(name)
	if c == nil {
		return Request{}, ErrInvalidCommand
	}
	req := Request{Command: c}
	if err := p.split(c, rest); err != nil {
		return req, err
	}
	for i, arg := range p.args {
		if c.IsKey(i) {
			if err := CheckKey(arg); err != nil {
				return req, err
			}
		} else if !IsText(arg) {
			return req, ErrInvalidValue
		}
	}
	req.Args = p.args
	return req, nil
}

// split fills p.args from what follows a command's name, which is empty or
// begins with a blank.
func (p *Parser) split(c *Command, rest []byte) error {
	if cap(p.args) > keptWords {
		p.args = nil
	}
	p.args = p.args[:0]
	for len(rest) > 0 {
		if c.Rest && len(p.args) == c.MaxArgs-1 {
			p.args = append(p.args, rest[1:])
			break
		}
		var word []byte
		if word, rest = cutWord(trimBlanks(rest)); len(word) == 0 {
			break
		}
		if len(p.args) == c.MaxArgs || len(p.args) == MaxWords {
			return ErrTooManyArguments
		}
		p.args = append(p.args, word)
	}
	return c.CheckArity(len(p.args))
}

// cutWord parts text before its first blank.
func cutWord(text []byte) (word, rest []byte) {
	if i := bytes.IndexByte(text, ' '); i >= 0 {
		return text[:i], text[i:]
	}
	return text, nil
}

// trimBlanks returns text from its first byte that is no blank.
func trimBlanks(text []byte) []byte {
	for len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	return text
}
