package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"merklekv/pkg/admin"
	"merklekv/pkg/config"
	"merklekv/pkg/journal"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/store"
	"merklekv/pkg/volume"
)

// fsyncs says what each fsync promises, for the log.
var fsyncs = map[disk.Fsync]string{
	disk.Always:   "an acknowledged write is on the disk",
	disk.Interval: "an acknowledged write survives the process; a machine that fails may lose those of the last second",
	disk.Never:    "an acknowledged write survives the process; a machine that fails may lose what the system had not written yet",
}

func fsyncOf(c config.Storage) disk.Fsync {
	return map[string]disk.Fsync{"always": disk.Always, "interval": disk.Interval, "never": disk.Never}[c.Fsync]
}

// openVolume locks the data directory and opens the journal in it.
func (n *Node) openVolume(logger *slog.Logger) error {
	c := n.config.Storage
	if !c.PersistenceEnabled {
		n.logger.Warn("nothing is kept on disk: a node that stops fetches everything from its peers, and has nothing where it has none",
			"storage.persistence_enabled", false)
		return nil
	}
	v, err := volume.Open(c.DataDir, n.config.NodeID, volume.Options{Logger: logger, Failed: n.fail})
	if err != nil {
		return err
	}
	n.volume = v
	n.clock.Raise(v.Bound())
	fsync := fsyncOf(c)
	n.logger.Info("data is kept on disk", "data_dir", c.DataDir, "fsync", c.Fsync, "meaning", fsyncs[fsync])
	if err := n.openDiskspace(logger); err != nil {
		return err
	}
	return n.openJournal(logger)
}

// openJournal opens the journal. Of one with damaged tables it saves what can be read.
func (n *Node) openJournal(logger *slog.Logger) error {
	dir := n.volume.JournalDir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && n.volume.Bound() != 0 {
		n.logger.Warn("the data directory was used before and has no journal now: the node begins with nothing and fetches all from its peers", "journal", dir)
	}
	err := n.tryJournal(logger)
	if !errors.Is(err, disk.ErrDamaged) || n.salvaged != nil {
		return err
	}
	return n.salvage(logger, err)
}

func (n *Node) tryJournal(logger *slog.Logger) (err error) {
	n.journal, err = disk.Open(n.volume.JournalDir(), disk.Options{
		FS: n.journalFS(), Fsync: fsyncOf(n.config.Storage), Logger: logger, Failed: n.fail, Registerer: n.registry,
	})
	return err
}

// openStore fills the replica with what the journal holds. Of a journal with damaged
// tables it saves what can be read; peers have the rest.
func (n *Node) openStore(logger *slog.Logger) error {
	err := n.loadStore(logger)
	if !errors.Is(err, disk.ErrDamaged) {
		return err
	}
	if n.salvaged != nil {
		return fmt.Errorf("%w. %s", err, n.reseedAdvice())
	}
	if err := n.salvage(logger, err); err != nil {
		return err
	}
	return n.loadStore(logger)
}

// salvage replaces a damaged journal by what can be read of it, and opens that. Where
// nothing may be saved, the journal is left as it is.
func (n *Node) salvage(logger *slog.Logger, why error) error {
	n.logger.Error("the journal is damaged; saving what can be read", "err", why)
	if n.journal != nil {
		if err := n.journal.Close(); err != nil {
			n.logger.Warn("closing the damaged journal", "err", err)
		}
		n.journal = nil
	}
	r, err := disk.Salvage(n.volume.JournalDir(), disk.SalvageOptions{FS: n.journalFS(), Logger: logger})
	if err != nil {
		return fmt.Errorf("%w. The journal was left as it is. %s", err, n.reseedAdvice())
	}
	n.salvaged = &r
	n.logger.Error("the journal was damaged; what could be read is saved, what could not is fetched from peers that have it",
		"entries", r.Entries, "damaged", r.Files, "ranges_lost", len(r.Lost), "aside", r.Aside)
	if err := n.tryJournal(logger); err != nil {
		return fmt.Errorf("%w. %s", err, n.reseedAdvice())
	}
	return nil
}

// reseedAdvice says what to do about a journal that cannot be read.
func (n *Node) reseedAdvice() string {
	return fmt.Sprintf("What the other nodes have is safe there: "+
		"'merklekv data reseed --yes --data-dir %s' sets this journal aside, and the node fetches everything from its peers; "+
		"what only this node had is then in the journal set aside, and in its last backup, "+
		"which 'merklekv backup restore' brings back", n.config.Storage.DataDir)
}

func (n *Node) loadStore(logger *slog.Logger) error {
	o := store.Options{
		Clock: n.clock, MemoryLimit: int64(n.config.Storage.MemoryLimitMB) << 20,
		RingBytes: int64(n.config.Replication.RingMB) << 20, Logger: logger,
	}
	if n.journal != nil {
		l := newLoading(n.starting, n.journal, n.logger)
		n.loading.Store(l)
		defer n.loading.Store(nil)
		o.Journal, o.Bound = l, n.volume
		n.loaded = l.index
	}
	s, err := store.New(o)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	n.store = s
	return s.Register(n.registry)
}

// volumeID returns the number of the data directory, 0 if there is none.
func (n *Node) volumeID() uint64 {
	if n.volume == nil {
		return 0
	}
	return n.volume.ID()
}

// received returns what was received before the start.
func (n *Node) received() []journal.Mark {
	if n.journal == nil {
		return nil
	}
	return n.journal.Received()
}

// startChecks are the lines of /readyz while the node starts.
func (n *Node) startChecks() []admin.Check {
	c := admin.Check{Name: "journal", Detail: "the node is starting"}
	if l := n.loading.Load(); l != nil {
		c.Detail = "loading the journal: " + l.progress(time.Now())
	}
	return []admin.Check{c}
}

// journalCheck says whether what is written stays.
func (n *Node) journalCheck() []admin.Check {
	if n.journal == nil {
		return nil
	}
	c := admin.Check{Name: "journal", OK: true}
	var details []string
	if err := n.journal.Damage(); err != nil {
		details = append(details, fmt.Sprintf("%v; what is in memory is sound, and the next start saves what can be read", err))
	}
	if waiting := n.journal.Waiting(); waiting > diskPatience {
		details = append(details, fmt.Sprintf("the disk has not answered for %v: writes wait", waiting.Round(time.Second)))
	}
	if queued := n.journal.Queued(); n.behind.Load() {
		details = append(details, fmt.Sprintf("the disk is slower than what comes from peers, who wait until less than %d of %d bytes are in memory", queuedLow, queued))
	}
	if r := n.salvaged; r != nil {
		details = append(details, fmt.Sprintf("it was damaged at the start, %d entries were saved, and repair fetches the rest; the old one is %s, to be deleted by you",
			r.Entries, r.Aside))
	}
	c.Degraded, c.Detail = len(details) > 0, strings.Join(details, "; ")
	return []admin.Check{c}
}

// How much of what nobody waits for, changes of other nodes, may be in memory on its
// way to the disk; and how long the disk may take before something is wrong.
const (
	queuedHigh   = 64 << 20 // bytes: no more is taken in
	queuedLow    = 16 << 20 // until there are less
	diskPatience = 10 * time.Second
	journalLook  = 100 * time.Millisecond

	journalSource = "journal"
)

// watchJournal is the layer that stops the taking in of changes while the disk is
// behind, and ends a node whose damaged journal takes no more.
func (n *Node) watchJournal(ctx context.Context) error {
	if n.journal == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(journalLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.heedQueue(n.journal.Queued())
			if err := n.journal.Damage(); err != nil && n.journal.Waiting() > diskPatience {
				return fmt.Errorf("%w: %w", disk.ErrFailed, err) // the next start saves what can be read
			}
		}
	}
}

// heedQueue stops the taking in of changes, or lets it go on.
func (n *Node) heedQueue(queued int64) {
	behind := isBehind(n.behind.Load(), queued)
	if behind == n.behind.Swap(behind) {
		return
	}
	if behind {
		n.logger.Warn("the disk is slower than what comes from peers: it waits", "queued_bytes", queued)
		n.room.breakLinks()
	}
	n.replication.SetIntake(journalSource, !behind)
}

// isBehind reports whether the disk is too far behind, with so many bytes on their
// way to it; was says whether it was.
func isBehind(was bool, queued int64) bool {
	return queued > queuedHigh || was && queued >= queuedLow
}

// fail stops the node because its disk failed.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// closeStorage closes the replica, the journal and the volume, once, after
// everything that writes to them.
func (n *Node) closeStorage() (err error) {
	n.closed.Do(func() {
		n.closeBackups()
		if n.store != nil {
			n.store.Close()
		}
		if n.journal != nil {
			err = n.journal.Close()
		}
		if n.volume != nil {
			err = errors.Join(err, n.volume.Close(n.clock.Last()))
		}
	})
	return err
}
