package main

import (
	"errors"

	"merklekv/pkg/config"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/replication"
	"merklekv/pkg/volume"
)

// Exit codes, for whoever supervises the process.
const (
	exitOK        = 0   // done, or stopped cleanly
	exitFailure   = 1   // something did not work; standard error says what
	exitUsage     = 2   // the command line or the configuration has to be changed
	exitDuplicate = 3   // another node with this node_id is running, and this one gave way
	exitDisk      = 4   // a write to the disk, or a sync, failed: nothing was acknowledged since
	exitDamaged   = 5   // the data directory or its journal is damaged: re-seed or restore
	exitForced    = 130 // a second signal ended the process before it had stopped
)

// Exit codes of the commands that compare nodes (verify, diff, sync), as those of
// diff(1) and cmp(1). They share numbers with the ones above: in these commands
// whatever keeps an answer from being found, a wrong command line too, is
// exitUnknown.
const (
	exitDifferent = 1 // the nodes differ
	exitUnknown   = 2 // it cannot be told
)

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitCode returns the code for what a command returned.
func exitCode(err error) int {
	var usage *usageError
	var compared *comparisonError
	var wrongNode *volume.WrongNodeError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &compared):
		return compared.code()
	case errors.As(err, &usage), config.IsConfigError(err), errors.As(err, &wrongNode), errors.Is(err, volume.ErrNotVolume):
		return exitUsage
	case errors.Is(err, replication.ErrDuplicateNodeID):
		return exitDuplicate
	case errors.Is(err, disk.ErrFailed):
		return exitDisk
	case errors.Is(err, volume.ErrDamaged), errors.Is(err, disk.ErrDamaged):
		return exitDamaged
	default:
		return exitFailure
	}
}
