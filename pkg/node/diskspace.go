package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/admin"
	"merklekv/pkg/antientropy"
	"merklekv/pkg/internal/diskspace"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

// diskSource is the name under which a full disk stops writes and intake.
const diskSource = "disk"

// Why a session ends, or none begins.
var (
	errDiskFull   = errors.New("disk full")
	errDiskBehind = errors.New("the disk is slower than what comes")
)

// room is what there is on the disk of the data directory, and what needs it.
type room struct {
	watcher *diskspace.Watcher // nil without persistence

	mu    sync.Mutex
	links map[*roomyLink]struct{} // those that break when the disk is full
}

// openDiskspace looks at the volume of the data directory before anything is written
// there: on a full one the ballast makes way for the journal to be opened.
func (n *Node) openDiskspace(logger *slog.Logger) error {
	w, err := diskspace.Open(diskspace.Options{
		Dir: n.volume.Dir(), Changed: n.diskChanged, Logger: logger, Registerer: n.registry,
	})
	if err != nil {
		return fmt.Errorf("open disk space: %w", err)
	}
	n.room.watcher = w
	return nil
}

// journalFS is where the journal lies: files that take what is in reserve when others
// have filled the disk faster than it was looked at.
func (n *Node) journalFS() vfs.FS { return n.room.watcher.EngineFS() }

// heedDiskspace makes a node that starts on a full disk refuse writes from its first
// connection on.
func (n *Node) heedDiskspace(*slog.Logger) error {
	if n.room.isFull() {
		n.store.SetReadOnly(diskSource, errDiskFull.Error())
	}
	return nil
}

// watchDiskspace is the layer that looks at the disk.
func (n *Node) watchDiskspace(ctx context.Context) error {
	if n.room.watcher == nil {
		<-ctx.Done()
		return nil
	}
	n.room.watcher.Run(ctx)
	return nil
}

// diskChanged stops all that fills the disk, or lets it go on. What is in flight is
// taken all the same: that is what the space in reserve is for. What was missed
// meanwhile comes by the ways of any other gap.
func (n *Node) diskChanged(full bool) {
	why := ""
	if full {
		why = errDiskFull.Error()
	}
	n.store.SetReadOnly(diskSource, why)
	if full {
		n.room.breakLinks()
	}
	n.replication.SetIntake(diskSource, !full)
}

// isFull reports whether nothing more is to be taken.
func (r *room) isFull() bool { return r.watcher != nil && r.watcher.State().Full }

// roomyLink is a link that breaks when the disk is full, so that a session does not
// fill what is in reserve.
type roomyLink struct {
	antientropy.Link
	room *room
}

func (l *roomyLink) Close() {
	l.release()
	l.Link.Close()
}

// release lets the link live however full the disk is.
func (l *roomyLink) release() {
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	delete(l.room.links, l)
}

// within lets a link live while there is room. It must be released or closed.
func (r *room) within(l antientropy.Link) *roomyLink {
	link := &roomyLink{l, r}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.links == nil {
		r.links = make(map[*roomyLink]struct{})
	}
	r.links[link] = struct{}{}
	return link
}

// breakLinks ends what takes in entries through links.
func (r *room) breakLinks() {
	r.mu.Lock()
	links := slices.Collect(maps.Keys(r.links))
	r.mu.Unlock()
	for _, l := range links {
		l.Close()
	}
}

// noRoom returns why this node takes in nothing now, nil if it does.
func (n *Node) noRoom() error {
	switch {
	case n.room.isFull():
		return errDiskFull
	case n.behind.Load():
		return errDiskBehind
	}
	return nil
}

// refuse refuses a session for want of room.
func (n *Node) refuse(l *replication.Link, why error) error {
	refusal := &protocol.PeerError{Code: protocol.PeerCodePaused, Message: n.config.NodeID + " takes nothing in: " + why.Error()}
	return l.Send(protocol.FrameError, protocol.EncodeCBOR(refusal))
}

// diskCheck is the line of /readyz, none without persistence.
func (n *Node) diskCheck() []admin.Check {
	if n.room.watcher == nil {
		return nil
	}
	s := n.room.watcher.State()
	c := admin.Check{Name: "disk", OK: true, Degraded: s.Full}
	if s.Full {
		c.Detail = fmt.Sprintf("%s of %s are free, which is full below %s: clients' writes are refused and changes of others wait until more than %s are free",
			mebibytes(s.Free), mebibytes(s.Total), mebibytes(s.Low), mebibytes(s.Clear))
	}
	return []admin.Check{c}
}

func mebibytes(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
