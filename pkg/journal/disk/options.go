// Package disk is the journal on disk: entries and the vector of what was applied,
// in Pebble, a log-structured store. DESIGN.md says what lies on the disk, what each
// fsync promises, and how damage is found.
package disk

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Fsync says when an appended record counts as durable.
type Fsync uint8

const (
	// Always: after it was forced to the disk, with all others that were waiting.
	Always Fsync = iota
	// Interval: after it was handed to the system, which keeps it when the process
	// dies; it is forced to the disk within a second.
	Interval
	// Never: after it was handed to the system, which writes it when it likes.
	Never
)

// Options configure a Journal. The zero value is a journal on the system's files
// that syncs always.
type Options struct {
	FS     vfs.FS // nil: the system's files
	Fsync  Fsync
	Logger *slog.Logger // nil: no log
	// Failed is called once, with the reason, when nothing more can become durable.
	// It must not block.
	Failed     func(error)
	Registerer prometheus.Registerer // nil: metrics are not exposed

	settleAt int // bytes of scripts; 0: settleBytes
}
