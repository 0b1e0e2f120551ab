package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"merklekv/pkg/config"
	"merklekv/pkg/logging"
)

// reloadInterval is how often configuration files are looked at.
const reloadInterval = time.Second

// runner is what serve runs.
type runner interface {
	// Run returns when ctx has ended and everything has stopped, or with an
	// error when it cannot go on.
	Run(ctx context.Context) error
}

// reloader is a runner that can take another configuration while it runs.
type reloader interface {
	// Reload puts the changed keys of c into force.
	Reload(c config.Config, changed []string)
}

// openNode makes a node that has loaded its data and bound its ports and does not
// serve yet.
type openNode func(ctx context.Context, c config.Config, logger *slog.Logger) (runner, error)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run a node", Args: cobra.NoArgs, RunE: a.serve,
	}
	configFlags(cmd)
	return cmd
}

// gcPercent lets the heap grow by half before it is collected. What lives there is
// mostly the index, without pointers inside, so that collecting is cheap and memory
// is not.
const gcPercent = 50

// serve runs a node until the context ends.
func (a *app) serve(cmd *cobra.Command, _ []string) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return a.runService(cmd.Context(), a.sources(cmd), a.open)
}

// runService loads the configuration, opens what it describes, and runs that
// with log and configuration reloaded as they change.
func (a *app) runService(ctx context.Context, sources config.Sources, open openNode) (err error) {
	loaded, err := config.Load(sources)
	if err != nil {
		return err
	}
	logger, handle, err := a.openLog(loaded.Config.Logging)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	own := logger.With("component", "main")
	for _, notice := range loaded.Notices {
		own.Warn(notice)
	}
	service, err := open(ctx, loaded.Config, logger)
	if err != nil {
		return err
	}
	r := &reload{log: own, handle: handle, service: service}
	r.watcher = config.NewWatcher(sources, loaded, reloadInterval, r.changed, r.failed)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.watcher.Run(ctx) })
	wg.Go(func() { r.hangups(ctx, a.signals) })
	err = service.Run(ctx)
	cancel()
	wg.Wait()
	return err
}

// openLog makes the logger that the configuration asks for.
func (a *app) openLog(c config.Logging) (*slog.Logger, *logging.Handle, error) {
	return logging.New(logging.Options{
		Level: c.Level, Format: c.Format, FilePath: c.FilePath,
		MaxSizeMB: c.MaxSizeMB, MaxFiles: c.MaxFiles, Output: a.stderr,
	})
}
