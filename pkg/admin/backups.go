package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// BackupsPath is where backups are listed (GET) and made (POST).
const BackupsPath = "/api/backups"

var (
	// ErrBusy is wrapped by API.Backup when a backup is being made already.
	ErrBusy = errors.New("busy")
	// ErrUnavailable is wrapped by API.Backup when this node makes none, or not yet.
	ErrUnavailable = errors.New("not available")
)

// Backup is one backup of the node.
type Backup struct {
	Name    string    `json:"name"`
	Path    string    `json:"path"` // on the node's machine
	NodeID  string    `json:"node_id"`
	Created time.Time `json:"created"`
	Entries int64     `json:"entries"`
	Bytes   int64     `json:"bytes"`
	Root    string    `json:"root"`    // 64 hexadecimal digits
	Version string    `json:"version"` // the greatest
	Program string    `json:"program"`
	Problem string    `json:"problem,omitempty"` // why it cannot be read; then the rest is not known
}

// BackupLine is one line of the answer to a POST: how far it is, in bytes, or how
// it ended. The last line has Backup or Error, or both when the backup is whole and
// something after it failed.
type BackupLine struct {
	Done   int64   `json:"done,omitempty"`
	Total  int64   `json:"total,omitempty"`
	Backup *Backup `json:"backup,omitempty"`
	Error  string  `json:"error,omitempty"`
}

func backupsHandler(api API, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			makeBackup(w, r, api.Backup, log)
			return
		}
		var list []Backup
		if api.Backups != nil {
			var err error
			if list, err = api.Backups(); err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				fmt.Fprintln(w, oneLine(err.Error()))
				return
			}
		}
		writeList(w, list, log)
	})
}

// lineEvery is the least time between two lines of progress.
const lineEvery = 250 * time.Millisecond

// makeBackup makes a backup and tells how far it is. It ends when the client hangs
// up.
func makeBackup(w http.ResponseWriter, r *http.Request, back func(context.Context, func(done, total int64)) (Backup, error), log *slog.Logger) {
	w.Header().Set("Content-Type", "application/jsonl")
	out := &lines{w: w, control: http.NewResponseController(w), log: log}
	if back == nil {
		out.end(nil, ErrUnavailable)
		return
	}
	made, err := back(r.Context(), out.progress)
	if made.Name == "" {
		out.end(nil, err)
		return
	}
	out.end(&made, err)
}

// lines writes the answer to a POST.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
	log     *slog.Logger
	last    time.Time // of the last line; zero before the first
}

func (l *lines) progress(done, total int64) {
	if now := time.Now(); now.Sub(l.last) >= lineEvery {
		l.last = now
		l.write(BackupLine{Done: done, Total: total})
	}
}

func (l *lines) end(made *Backup, err error) {
	line := BackupLine{Backup: made}
	if err != nil {
		line.Error = oneLine(err.Error())
	}
	if err != nil && l.last.IsZero() {
		l.w.WriteHeader(statusOf(err))
	}
	l.write(line)
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrBusy):
		return http.StatusConflict
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (l *lines) write(line BackupLine) {
	err := l.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = json.NewEncoder(l.w).Encode(line)
	}
	if err == nil {
		err = l.control.Flush()
	}
	if err != nil {
		l.log.Debug("line is not written", "err", err) // the client has gone
	}
}
