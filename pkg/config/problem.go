package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Where string // file, environment variable or flag; may be empty
	Line  int    // in the file, from 1; 0 when there is none
	Key   string // dotted name; empty when no key is concerned
	What  string // what is wrong, and what would be valid
}

// String returns the problem on one line.
func (p Problem) String() string {
	parts := make([]string, 0, 3)
	switch {
	case p.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", p.Where, p.Line))
	case p.Where != "":
		parts = append(parts, p.Where)
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.What), ": ")
}

// Error is everything that is wrong with a configuration, at least one Problem.
type Error struct {
	Problems []Problem
}

// Error returns all problems, each on a line of its own.
func (e *Error) Error() string {
	var b strings.Builder
	noun := "problems"
	if len(e.Problems) == 1 {
		noun = "problem"
	}
	fmt.Fprintf(&b, "configuration has %d %s:", len(e.Problems), noun)
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		b.WriteString(p.String())
	}
	return b.String()
}

// asError returns the problems as an error, nil if there are none.
func asError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &Error{Problems: problems}
}
