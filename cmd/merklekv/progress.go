package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress shows on standard error how far something is: on a terminal in one line
// that changes, elsewhere, if wanted, in a line for each tenth.
type progress struct {
	out      io.Writer // nil: nothing is shown
	terminal bool
	what     string
	shown    time.Time
	percent  int64 // that was shown last
}

const progressEvery = 200 * time.Millisecond

// newProgress returns a progress that shows something on a terminal, or where it is
// wanted.
func (a *app) newProgress(what string, wanted bool) *progress {
	p := &progress{what: what, terminal: isTerminal(a.stderr), percent: -10}
	if wanted || p.terminal {
		p.out = a.stderr
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// tell shows done of total, in bytes.
func (p *progress) tell(done, total int64) {
	if p.out == nil {
		return
	}
	percent := int64(100)
	if total > 0 {
		percent = int64(float64(done) / float64(total) * 100)
	}
	now := time.Now()
	switch {
	case p.terminal && now.Sub(p.shown) >= progressEvery:
		p.shown = now
		fmt.Fprintf(p.out, "\r%s: %d %% of %s\x1b[K", p.what, percent, sizeText(total))
	case !p.terminal && percent >= p.percent+10:
		p.percent = percent - percent%10
		fmt.Fprintf(p.out, "%s: %d %% of %s\n", p.what, percent, sizeText(total))
	}
}

// end leaves a terminal's line as it was before.
func (p *progress) end() {
	if p.out != nil && p.terminal && !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// sizeText is a number of bytes for a person.
func sizeText(n int64) string {
	const unit = 1024
	value, name := float64(n), "bytes"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < unit {
			break
		}
		value, name = value/unit, next
	}
	if name == "bytes" {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", value, name)
}
