package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"merklekv/pkg/server"
)

// Run serves until ctx ends, a client says SHUTDOWN, or a part fails, and
// returns when everything has stopped: nil for the first two. An error that
// wraps replication.ErrDuplicateNodeID says that this node gave way to another
// one of the same node_id. Run can be called once.
//
// Parts start in the order of who needs whom and stop in reverse:
//
//	admin        up since New, last down: it says what the others are doing
//	journal      open since New, closed when nobody writes any more
//	broker       before replication dials it, after replication said good-bye
//	replication  before the client port, whose peers it serves, and after it, so
//	             that the last changes still go out
//	repair       closes epochs and mends what messages missed
//	membership   joins once replication is ready
//	backups      end before the journal is closed
//	disk space   looks whether there is any, after replication, which it stops
//	memory       follows the container's limit
//	client port  last; data commands are refused until the first pull
func (n *Node) Run(ctx context.Context) error {
	defer n.Close()
	ctx, stop := context.WithCancelCause(ctx)
	var waiter sync.WaitGroup
	waiter.Go(func() { n.awaitShutdown(ctx, stop) })
	defer waiter.Wait()
	defer stop(nil)
	n.logger.Info("starting", "version", n.version, "clients", n.Addr().String(), "admin", n.AdminAddr().String(),
		"advertised", n.advertised(), "brokers", n.config.MQTT.Brokers(), "instance", fmt.Sprintf("%016x", n.store.Instance()))
	warnDescriptors(n.logger, n.config.Network.MaxConnections)

	running := []*layer{n.operators}
	for _, l := range n.layers() {
		running = append(running, l.start(stop))
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	n.logger.Info("stopping", "why", cause)
	var errs []error
	for i := len(running) - 1; i > 0; i-- {
		errs = append(errs, running[i].stop())
	}
	errs = append(errs, n.closeStorage(), running[0].stop())
	var broken *fatalError
	if errors.As(cause, &broken) && !errors.Is(errors.Join(errs...), broken.err) {
		errs = append(errs, broken.err)
	}
	n.logger.Info("stopped")
	return errors.Join(errs...)
}

// fatalError is what stops a node from without its layers.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// awaitShutdown stops the node when a client says so, or when it cannot go on.
func (n *Node) awaitShutdown(ctx context.Context, stop context.CancelCauseFunc) {
	select {
	case <-n.shutdown:
		stop(errShutdown)
	case err := <-n.fatal:
		stop(&fatalError{err})
	case <-ctx.Done():
	}
}

// layer is one part of the node while it runs.
type layer struct {
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	done   sync.WaitGroup
	err    error
}

// start runs a part until stop is called. A part that ends by itself stops the
// node.
func (l *layer) start(stopNode func(error)) *layer {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.done.Go(func() {
		l.err = l.run(ctx)
		switch {
		case l.err != nil:
			l.err = fmt.Errorf("%s: %w", l.name, l.err)
			stopNode(l.err)
		case ctx.Err() == nil:
			stopNode(fmt.Errorf("%s has ended", l.name))
		}
	})
	return l
}

// stop ends a part and returns its error.
func (l *layer) stop() error {
	l.cancel()
	l.done.Wait()
	return l.err
}

// layers returns the parts in the order in which they start, after the port for
// operators.
func (n *Node) layers() []*layer {
	var parts []*layer
	if n.broker != nil {
		parts = append(parts, &layer{name: "broker", run: n.broker.Serve})
	}
	return append(parts,
		&layer{name: "replication", run: n.replication.Run},
		&layer{name: "repair", run: n.runRepair},
		&layer{name: "membership", run: n.keepMembership},
		&layer{name: "backups", run: n.runBackups},
		&layer{name: "journal", run: n.watchJournal},
		&layer{name: "disk space", run: n.watchDiskspace},
		&layer{name: "memory", run: n.keepGoMemory},
		&layer{name: "client port", run: n.serveClients},
	)
}

func (n *Node) serveClients(ctx context.Context) error {
	if err := n.server.Serve(ctx); !errors.Is(err, server.ErrClosed) {
		return err
	}
	return nil
}

func (n *Node) runRepair(ctx context.Context) error {
	n.repair.Run(ctx)
	return nil
}
