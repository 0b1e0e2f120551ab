package replication

import (
	"context"
	"time"

	"merklekv/pkg/internal/address"
	"merklekv/pkg/internal/mqttlink"
)

// Ready reports whether this node has what its peers have, as far as its start
// is concerned, and why not.
func (r *Replicator) Ready() (bool, []string) {
	s := r.snapshot.Load()
	return s.Ready, s.Reasons
}

// Status returns what is known, at most a tenth of a second old.
func (r *Replicator) Status() Status {
	s := *r.snapshot.Load()
	for _, l := range r.links {
		st := l.Stats()
		b := BrokerStatus{Address: l.Broker(), Up: st.State.Up, Since: st.State.Since, Dropped: st.Dropped, Oversize: st.Oversize}
		if st.State.Reason != nil {
			b.Reason = st.State.Reason.Error()
		}
		s.Brokers = append(s.Brokers, b)
	}
	return s
}

// StatusNow returns what is known at this moment, without the brokers.
func (r *Replicator) StatusNow(ctx context.Context) (s Status, err error) {
	err = r.do(ctx, func(c *Core) { s = c.Status() })
	return s, err
}

// RequestHeads asks all peers for a head at once, at most twenty times a second.
// It does not wait for them.
func (r *Replicator) RequestHeads(ctx context.Context) error {
	return r.do(ctx, (*Core).RequestHeads)
}

// EpochClosed says that Options.Closed has something new, so that a head tells of
// it at once. It does not block.
func (r *Replicator) EpochClosed() {
	select {
	case r.epochs <- struct{}{}:
	default:
	}
}

// AdoptFrom takes in that a session with a peer succeeded: see Core.Adopt. It
// reports whether the peer's last head shows it already.
func (r *Replicator) AdoptFrom(ctx context.Context, instance uint64, epoch int64, root []byte) (shown bool, err error) {
	err = r.do(ctx, func(c *Core) { shown = c.Adopt(instance, epoch, root) })
	return shown, err
}

// SetEnabled pauses replication, or lets it go on. While it is paused, own changes
// are neither published nor given to pulls, and those of others are not taken in;
// heads and presence go on. Afterwards what was missed is fetched as a gap.
func (r *Replicator) SetEnabled(on bool) {
	if r.paused.Swap(!on) == !on {
		return
	}
	r.log.Info("replication is switched", "enabled", on)
	r.tell(func(c *Core) { c.SetEnabled(on) })
	for _, p := range r.publishers {
		p.poke()
	}
}

// SetIntake stops taking in changes of others for the sake of a source, as one that
// sees the disk fill, or lets that go on; other sources, and SetEnabled, are
// independent of it. Meanwhile own changes go out, pulls are served, and heads say
// that nothing is taken. Afterwards what was missed is fetched as a gap. It does not
// reach repair sessions.
func (r *Replicator) SetIntake(source string, on bool) {
	r.tell(func(c *Core) { c.SetIntake(source, on) })
}

// Enabled reports whether replication goes on.
func (r *Replicator) Enabled() bool { return !r.paused.Load() }

// SetDiscoveryInterval sets how often names are looked up again.
func (r *Replicator) SetDiscoveryInterval(d time.Duration) {
	if d > 0 {
		r.tell(func(c *Core) { c.SetDiscoveryInterval(d) })
	}
}

// Forget drops what is known of a node that is gone for good: its instances, its
// addresses, and its retained presence at the brokers. A node that is alive stays.
func (r *Replicator) Forget(ctx context.Context, nodeID string) error {
	gone := true
	err := r.do(ctx, func(c *Core) {
		c.Forget(nodeID)
		for _, p := range c.peers {
			gone = gone && p.nodeID != nodeID
		}
	})
	if err != nil || !gone || nodeID == r.opts.NodeID || !address.IsNodeID(nodeID) {
		return err
	}
	clearing := mqttlink.Message{Topic: r.opts.Prefix + "/nodes/" + nodeID, Retained: true}
	for _, l := range r.links {
		if l.Up() {
			l.Publish(ctx, clearing.Topic, clearing.Retained, clearing.Payload) // as far as that goes
		}
	}
	return nil
}
