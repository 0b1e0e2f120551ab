package nodes

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Session is a line of SYNCS: one repair session as a node remembers it.
type Session struct {
	Number              uint64 // counts the sessions since the node started
	At                  time.Time
	Peer, Why, Outcome  string
	Compared, Differing int
	Pulled, Pushed      int   // entries that won here, and there
	BytesIn, BytesOut   int64 // of the session's own frames
	LinkIn, LinkOut     int64 // of all frames on the link, handshake and heads included
	RoundTrips          int
	Millis              float64 // it took
}

// Moved is how many entries changed a replica, on either side.
func (s *Session) Moved() int { return s.Pulled + s.Pushed }

// Bytes is what went over the link, both ways.
func (s *Session) Bytes() int64 { return s.LinkIn + s.LinkOut }

// Served says whether the peer started the session, which remembers it as well.
func (s *Session) Served() bool { return s.Why == "served" }

// ParseSession reads a line of SYNCS. Words that are unknown here are passed over; one that is
// missing is an error.
func ParseSession(line string) (Session, error) {
	words := make(map[string]string)
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	p := parser{words: words}
	s := Session{
		Number: uint64(p.number("n")), At: p.time("at"),
		Peer: p.text("peer"), Why: p.text("why"), Outcome: p.text("outcome"),
		Compared: int(p.number("compared")), Differing: int(p.number("differing")),
		Pulled: int(p.number("pulled")), Pushed: int(p.number("pushed")),
		BytesIn: p.number("bytes_in"), BytesOut: p.number("bytes_out"),
		LinkIn: p.number("link_in"), LinkOut: p.number("link_out"),
		RoundTrips: int(p.number("round_trips")), Millis: p.float("ms"),
	}
	if p.err != nil {
		return Session{}, fmt.Errorf("session %q: %w", line, p.err)
	}
	return s, nil
}

// parser reads name=value words and keeps the first error.
type parser struct {
	words map[string]string
	err   error
}

func (p *parser) text(name string) string {
	value, found := p.words[name]
	if !found {
		p.fail(fmt.Errorf("no %s", name))
	}
	return value
}

func (p *parser) number(name string) int64 {
	n, err := strconv.ParseInt(p.text(name), 10, 64)
	if err == nil && n < 0 {
		err = fmt.Errorf("%s is negative", name)
	}
	p.fail(err)
	return n
}

func (p *parser) float(name string) float64 {
	f, err := strconv.ParseFloat(p.text(name), 64)
	p.fail(err)
	return f
}

func (p *parser) time(name string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, p.text(name))
	p.fail(err)
	return at
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// Sessions returns the repair sessions that the node remembers, newest first.
func (n Node) Sessions() ([]Session, error) {
	lines, err := n.Report("SYNCS")
	if err != nil {
		return nil, err
	}
	sessions := make([]Session, 0, len(lines))
	for _, line := range lines {
		s, err := ParseSession(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		sessions = append(sessions, s)
	}
	return sessions, nil
}

// Verdict is an answer to CONVERGED.
type Verdict struct {
	Equal bool
	Epoch int64  // at which all were compared; only where they are equal
	Root  string // the one that all have, in hex; only where they are equal
	Line  string // the whole answer
}

// ParseVerdict reads an answer to CONVERGED.
func ParseVerdict(line string) (Verdict, error) {
	v := Verdict{Line: line}
	words := strings.Fields(line)
	switch {
	case len(words) == 3 && words[0] == "EQUAL":
		epoch, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil || len(words[2]) != 64 {
			return Verdict{}, fmt.Errorf("CONVERGED answered %q: no epoch or no root", line)
		}
		v.Equal, v.Epoch, v.Root = true, epoch, words[2]
	case len(words) > 0 && (words[0] == "DIFFERENT" || words[0] == "UNKNOWN"):
	default:
		return Verdict{}, fmt.Errorf("CONVERGED answered %q", line)
	}
	return v, nil
}

// Converged asks the node whether all nodes hold the same.
func (n Node) Converged() (Verdict, error) {
	line, err := n.Do("CONVERGED")
	if err != nil {
		return Verdict{}, err
	}
	v, err := ParseVerdict(line)
	if err != nil {
		return Verdict{}, fmt.Errorf("%s: %w", n.Name, err)
	}
	return v, nil
}
