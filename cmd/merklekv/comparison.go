package main

import "fmt"

// comparison is what a command finds out that compares nodes: verify, diff and
// sync.
type comparison int

const (
	sameNodes comparison = iota
	differentNodes
	unknownNodes
)

func (c comparison) String() string { return [...]string{"EQUAL", "DIFFERENT", "UNKNOWN"}[c] }

// asError returns what ends the command with the comparison's exit code; what is
// to be said has been said.
func (c comparison) asError() error {
	if c == sameNodes {
		return nil
	}
	return &comparisonError{found: c}
}

// comparisonCodes is part of the help of these commands.
const comparisonCodes = "Exit codes: 0 the nodes are equal, 1 they differ, 2 it cannot be told (a node does not\n" +
	"answer, the last writes are still on their way, or the command line is wrong)."

// comparisonError is the end of a command that compares nodes. err is why
// nothing could be found out, nil when the command has said all.
type comparisonError struct {
	found comparison
	err   error
}

func (e *comparisonError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return fmt.Sprintf("nodes are %s", e.found)
}

func (e *comparisonError) Unwrap() error { return e.err }

// code returns the exit code.
func (e *comparisonError) code() int {
	if e.found == differentNodes {
		return exitDifferent
	}
	return exitUnknown
}

// unknown is for what keeps a command from finding out.
func unknown(err error) error {
	if err == nil {
		return nil
	}
	return &comparisonError{found: unknownNodes, err: err}
}
