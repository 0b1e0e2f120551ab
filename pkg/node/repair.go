package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/config"
	"merklekv/pkg/hlc"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
	"merklekv/pkg/server"
	"merklekv/pkg/store"
)

func (n *Node) openRepair(logger *slog.Logger) error {
	// The index reads the log from its first change on.
	source := struct {
		*store.Store
		*store.DirtyReader
	}{n.store, n.store.NewDirtyReader()}
	r, err := antientropy.New(antientropy.Options{
		Instance: n.store.Instance(), Source: source, Replica: n.store, Loaded: n.loaded,
		Grace:  int64(n.config.AntiEntropy.TombstoneGrace) * 1000 / hlc.MillisPerEpoch,
		Millis: n.median.Millis, Peers: n.repairPeers, Connect: n.connectPeer, Adopt: n.adopt,
		Timely:   func() bool { ready, _ := n.replication.Ready(); return ready },
		OnClosed: func() { n.replication.EpochClosed() },
		Limits:   repairLimits(n.config.AntiEntropy), Registerer: n.registry, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("open repair: %w", err)
	}
	n.repair, n.loaded = r, nil
	return nil
}

func repairLimits(c config.AntiEntropy) antientropy.Limits {
	return antientropy.Limits{
		Enabled: c.Enabled, Interval: c.Interval.Duration(), Concurrent: c.MaxConcurrentSyncs,
		BytesPerSecond: c.MaxBytesPerSecond,
	}
}

// closedEpochs is what heads tell of closed epochs.
func (n *Node) closedEpochs() replication.Closed {
	c := n.repair.Closed()
	out := replication.Closed{Sealed: c.Sealed, Drained: c.Drained}
	for i := range c.Roots {
		e := replication.EpochHead{Epoch: c.Roots[i].Epoch}
		if r := &c.Roots[i]; r.Told {
			e.Root, e.Count = r.Root[:], uint64(r.Count)
		}
		out.Epochs = append(out.Epochs, e)
	}
	return out
}

// repairPeers is what the planner of repairs has to know of the peers.
func (n *Node) repairPeers() []antientropy.PeerState {
	status := n.replication.Status()
	unfillable := make(map[uint64]bool)
	for _, u := range status.Unfillable {
		unfillable[u.Holder] = true
	}
	var peers []antientropy.PeerState
	for i := range status.Peers {
		p := &status.Peers[i]
		if p.NodeID == "" || p.NodeID == n.config.NodeID {
			continue
		}
		s := antientropy.PeerState{
			NodeID: p.NodeID, Instance: p.Instance, Address: p.Address, Live: p.Live && status.Ready, Comparable: p.ParamsEqual,
			Hold:    status.Paused || n.noRoom() != nil || p.Head != nil && p.Head.Shut,
			HeadAge: p.HeadAge, Pulling: status.Pulling > 0, Unfillable: unfillable[p.Instance],
		}
		for _, e := range p.Epochs {
			s.Epochs = append(s.Epochs, antientropy.EpochPair{
				Epoch: e.Epoch, Own: e.Own, Theirs: e.Root, VectorsEqual: e.VectorsEqual,
			})
		}
		peers = append(peers, s)
	}
	return peers
}

func (n *Node) connectPeer(ctx context.Context, addr string) (antientropy.Link, error) {
	l, err := n.replication.Connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	return n.room.within(l), nil
}

func (n *Node) adopt(ctx context.Context, instance uint64, epoch int64, root merkle.Hash) {
	if _, err := n.replication.AdoptFrom(ctx, instance, epoch, root[:]); err != nil {
		n.logger.Debug("a session's result is not taken over", "err", err)
	}
}

func (n *Node) serveSession(ctx context.Context, l *replication.Link, open []byte) error {
	if !n.replication.Enabled() {
		refusal := &protocol.PeerError{Code: protocol.PeerCodePaused, Message: "replication is disabled at " + n.config.NodeID}
		return l.Send(protocol.FrameError, protocol.EncodeCBOR(refusal))
	}
	if why := n.noRoom(); why != nil {
		return n.refuse(l, why)
	}
	link := n.room.within(l)
	defer link.release()
	return n.repair.Serve(ctx, link, open)
}

// comparer adapts repair to what the client port asks of it.
type comparer struct{ *Node }

func (c comparer) Hash(_ context.Context, prefix []byte) ([32]byte, error) {
	return c.repair.Hash(prefix), nil
}

func (c comparer) Sync(ctx context.Context, r server.SyncRequest) (server.SyncReport, error) {
	mode := antientropy.Repair
	switch {
	case r.Verify:
		mode = antientropy.Verify
	case r.Full:
		mode = antientropy.Full
	}
	rec, err := c.session(ctx, r.Host, r.Port, mode)
	if err == nil {
		err = unfinished(&rec.Result)
	}
	res := &rec.Result
	return server.SyncReport{
		Repaired: int64(res.Pulled + res.Pushed), Compared: int64(res.Keys), Bytes: res.BytesIn + res.BytesOut,
		Rounds: int64(res.RoundTrips), Elapsed: rec.Took, Different: int64(res.DifferenceCount),
	}, err
}

func (c comparer) Diff(ctx context.Context, host, port string, limit int) (server.Differences, error) {
	rec, err := c.session(ctx, host, port, antientropy.Verify)
	if err == nil {
		err = unfinished(&rec.Result)
	}
	d := server.Differences{Total: int64(rec.Result.DifferenceCount)}
	for i, diff := range rec.Result.Differences {
		if i == limit {
			break
		}
		d.Listed = append(d.Listed, server.Difference(diff))
	}
	return d, err
}

// unfinished returns what a session left undone, nil for nothing.
func unfinished(r *antientropy.Result) error {
	switch {
	case r.Partial:
		return protocol.SyncFailed(fmt.Sprintf("there was more to do than one session may; %d entries were moved, ask again", r.Pulled+r.Pushed))
	case r.Deferred > 0:
		return protocol.SyncFailed(fmt.Sprintf("%d entries are from the future and were put off", r.Deferred))
	case r.Mode == antientropy.Verify && r.DifferenceCount == 0 && !r.Equal:
		return protocol.SyncFailed("the roots differ, but no key was found that does; ask again")
	}
	return nil
}

// busyFor is how long a client's session waits for others to end.
const busyFor = 5 * time.Second

// session runs a session for a client, whose errors name what the client can do
// something about. Where another one runs, which may be the client's own last that
// is just ending at the peer, it waits a while.
func (c comparer) session(ctx context.Context, host, port string, mode antientropy.Mode) (antientropy.Record, error) {
	if why := c.noRoom(); mode != antientropy.Verify && why != nil {
		return antientropy.Record{}, protocol.SyncFailed(why.Error())
	}
	address, begin, pause := net.JoinHostPort(host, port), time.Now(), 5*time.Millisecond
	for {
		rec, err := c.repair.Sync(ctx, address, mode)
		if !antientropy.IsBusy(err) || time.Since(begin) >= busyFor {
			return rec, syncError(err)
		}
		select {
		case <-ctx.Done():
			return rec, syncError(err)
		case <-time.After(pause):
			pause = min(2*pause, 250*time.Millisecond)
		}
	}
}

// syncError is what a client is told of a session's error.
func syncError(err error) error {
	var refusal *protocol.PeerError
	var unreachable *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return protocol.SyncFailed(refusal.Message)
	case errors.As(err, &unreachable) && unreachable.Op == "dial":
		return protocol.ErrConnectionFailed
	}
	return protocol.SyncFailed(err.Error())
}

func (c comparer) Converged(ctx context.Context, version kv.Version) (protocol.Verdict, error) {
	// What others told comes before the own roots: those then hold all that the own
	// vector, with which theirs are compared, covers.
	status, err := c.replication.StatusNow(ctx)
	if err != nil {
		return protocol.Verdict{}, err
	}
	s := antientropy.Standing{
		Millis: c.median.Millis(), Self: c.config.NodeID, Members: c.members(), Silent: status.Silent,
		Greatest: c.store.Greatest(), Asked: version, Vector: status.Vector,
	}
	roots := make(map[int64]merkle.Hash)
	for _, r := range c.repair.Drain().Roots {
		s.Own = append(s.Own, antientropy.RootAt{Epoch: r.Epoch, Root: r.Root})
		roots[r.Epoch] = r.Root
	}
	for i := range status.Peers {
		c.addHead(&s, &status.Peers[i], roots)
	}
	return antientropy.Converged(&s), nil
}

// addHead adds what a peer's newest head tells, of each node the newest one. The
// vectors were compared when the own root was another one, or none was told: then
// they say nothing about the one of now.
func (n *Node) addHead(s *antientropy.Standing, p *replication.PeerStatus, own map[int64]merkle.Hash) {
	if p.Head == nil || p.NodeID == n.config.NodeID {
		return
	}
	if s.Greatest.Less(p.Head.Greatest) {
		s.Greatest = p.Head.Greatest
	}
	h := antientropy.PeerHead{
		NodeID: p.NodeID, Age: p.HeadAge, Params: p.ParamsEqual, Greatest: p.Head.Greatest, Wrote: p.Head.Last.Seq > 0, Vector: p.Head.Vector, Differs: n.repair.Unequal(p.Instance),
	}
	for _, e := range p.Epochs {
		if len(e.Root) == len(merkle.Hash{}) {
			now, kept := own[e.Epoch]
			h.Roots = append(h.Roots, antientropy.RootSeen{
				RootAt:     antientropy.RootAt{Epoch: e.Epoch, Root: merkle.Hash(e.Root)},
				SameVector: e.VectorsEqual && kept && string(e.Own) == string(now[:]),
			})
		}
	}
	s.AddHead(h)
}

// Sessions returns the last repair sessions, newest first.
func (c comparer) Sessions(max int) []server.Record {
	var out []server.Record
	for _, r := range c.repair.Records(max) {
		out = append(out, sessionRecord(&r))
	}
	return out
}

// sessionRecord is what a listing shows of a session.
func sessionRecord(r *antientropy.Record) server.Record {
	res := &r.Result
	rec := server.Record{}
	add := func(name, format string, args ...any) {
		rec = append(rec, server.Field{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	add("n", "%d", r.Number)
	add("at", "%s", r.At.UTC().Format(time.RFC3339Nano))
	add("peer", "%s", r.NodeID)
	add("why", "%s", r.Why)
	add("mode", "%s", res.Mode)
	add("outcome", "%s", r.Outcome())
	add("epoch", "%d", res.Epoch)
	add("compared", "%d", res.Keys)
	add("differing", "%d", res.Differing)
	add("pulled", "%d", res.Pulled)
	add("pushed", "%d", res.Pushed)
	add("moot", "%d", res.Moot)
	add("deferred", "%d", res.Deferred)
	add("bytes_in", "%d", res.BytesIn)
	add("bytes_out", "%d", res.BytesOut)
	add("link_in", "%d", r.LinkIn)
	add("link_out", "%d", r.LinkOut)
	add("round_trips", "%d", res.RoundTrips)
	add("ms", "%.3f", float64(r.Took.Microseconds())/1000)
	if r.Error != "" {
		add("error", "%s", r.Error)
	}
	return rec
}
