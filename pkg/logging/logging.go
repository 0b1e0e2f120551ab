package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// LevelTrace is below slog's own levels, for single steps of the protocols.
const LevelTrace = slog.Level(-8)

// Options say what is logged, and how. The zero value is info, JSON, standard
// error.
type Options struct {
	Level     string    // trace, debug, info, warn or error; empty is info
	Format    string    // json or text; empty is json
	FilePath  string    // empty writes to Output
	MaxSizeMB int       // MiB at which the file is rotated; 0 never rotates
	MaxFiles  int       // rotated files that are kept; less than 1 counts as 1
	Output    io.Writer // where records go without a file; nil is standard error
}

// Handle changes a logger that is in use.
type Handle struct {
	level *slog.LevelVar
	file  *File // nil without a file
}

// New returns a logger and the handle that its owner closes.
func New(options Options) (*slog.Logger, *Handle, error) {
	level, err := ParseLevel(options.Level)
	if err != nil {
		return nil, nil, err
	}
	h := &Handle{level: new(slog.LevelVar)}
	h.level.Set(level)
	handlerOptions := &slog.HandlerOptions{Level: h.level, ReplaceAttr: nameTrace}
	var makeHandler func(io.Writer) slog.Handler
	switch options.Format {
	case "", "json":
		makeHandler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, handlerOptions) }
	case "text":
		makeHandler = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, handlerOptions) }
	default:
		return nil, nil, fmt.Errorf("log format %q is neither json nor text", options.Format)
	}
	output := options.Output
	if output == nil {
		output = os.Stderr
	}
	if options.FilePath != "" {
		h.file, err = OpenFile(options.FilePath, int64(options.MaxSizeMB)<<20, max(1, options.MaxFiles))
		if err != nil {
			return nil, nil, err
		}
		output = h.file
	}
	return slog.New(makeHandler(output)), h, nil
}

// SetLevel changes the least severity that is logged.
func (h *Handle) SetLevel(name string) error {
	level, err := ParseLevel(name)
	if err != nil {
		return err
	}
	h.level.Set(level)
	return nil
}

// Reopen opens the log file anew, for when something has moved it away.
func (h *Handle) Reopen() error {
	if h.file == nil {
		return nil
	}
	return h.file.Reopen()
}

// Close closes the log file; records that come later are lost.
func (h *Handle) Close() error {
	if h.file == nil {
		return nil
	}
	return h.file.Close()
}

// ParseLevel returns the level of that name; of none, info.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "trace":
		return LevelTrace, nil
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is none of trace, debug, info, warn, error", name)
}

// nameTrace gives LevelTrace, which slog calls DEBUG-4, its name.
func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 || a.Key != slog.LevelKey {
		return a
	}
	if level, ok := a.Value.Any().(slog.Level); ok && level <= LevelTrace {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}
