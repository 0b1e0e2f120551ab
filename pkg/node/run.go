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
//	admin        first up, last down: it says what the others are doing
//	broker       before replication dials it, after replication said good-bye
//	replication  before the client port, whose peers it serves, and after it, so
//	             that the last changes still go out
//	repair       closes epochs and mends what messages missed
//	membership   joins once replication is ready
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

	var errs []error
	layers := n.layers()
	running := make([]*layer, 0, len(layers))
	for _, l := range layers {
		running = append(running, l.start(stop))
	}
	<-ctx.Done()
	n.logger.Info("stopping", "why", context.Cause(ctx))
	for i := len(running) - 1; i >= 0; i-- {
		errs = append(errs, running[i].stop())
	}
	n.logger.Info("stopped")
	return errors.Join(errs...)
}

// awaitShutdown stops the node when a client says so.
func (n *Node) awaitShutdown(ctx context.Context, stop context.CancelCauseFunc) {
	select {
	case <-n.shutdown:
		stop(errShutdown)
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
func (l *layer) start(stopNode context.CancelCauseFunc) *layer {
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

// layers returns the parts in the order in which they start.
func (n *Node) layers() []*layer {
	parts := []*layer{{name: "admin port", run: n.admin.Serve}}
	if n.broker != nil {
		parts = append(parts, &layer{name: "broker", run: n.broker.Serve})
	}
	return append(parts,
		&layer{name: "replication", run: n.replication.Run},
		&layer{name: "repair", run: n.runRepair},
		&layer{name: "membership", run: n.keepMembership},
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
