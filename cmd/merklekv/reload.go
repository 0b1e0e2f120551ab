package main

import (
	"context"
	"log/slog"
	"os"

	"merklekv/pkg/config"
	"merklekv/pkg/logging"
)

// reload brings changes of the configuration into a running service.
type reload struct {
	log     *slog.Logger
	handle  *logging.Handle
	service runner
	watcher *config.Watcher
}

// hangups answers SIGHUP: the log file is opened anew and the configuration
// loaded again.
func (r *reload) hangups(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if err := r.handle.Reopen(); err != nil {
				r.log.Error("log file cannot be reopened", "err", err)
			}
			r.watcher.Trigger()
		}
	}
}

// changed puts into force what a reload brought.
func (r *reload) changed(change config.Change) {
	c := change.New.Config
	if err := r.handle.SetLevel(c.Logging.Level); err != nil {
		r.log.Error("log level stays as it is", "err", err)
	}
	if service, ok := r.service.(reloader); ok && len(change.Changed) > 0 {
		service.Reload(c, change.Changed)
	}
	r.log.Info("configuration reloaded", "changed", change.Changed)
	if len(change.NeedRestart) > 0 {
		r.log.Warn("changed keys take effect at the next start only", "keys", change.NeedRestart)
	}
}

// failed says that the configuration in force stays.
func (r *reload) failed(err error) {
	r.log.Error("configuration not reloaded, the one in force stays", "err", err)
}
