package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"merklekv/pkg/admin"
	"merklekv/pkg/backup"
	"merklekv/pkg/config"
	"merklekv/pkg/kv"
)

// openBackups prepares the making of backups, where the node has a journal and a
// directory for them.
func (n *Node) openBackups(logger *slog.Logger) error {
	c := n.config.Storage
	if n.journal == nil || c.BackupDir == "" {
		return nil
	}
	r, err := backup.NewRunner(backup.RunnerOptions{
		Options: backup.Options{
			Dir: c.BackupDir, NodeID: n.config.NodeID, Volume: n.volume.ID(), DataDir: c.DataDir, Program: n.version, Keep: c.BackupKeep,
		},
		Source: n.journal, Interval: backupInterval(c), Logger: logger, Registerer: n.registry,
	})
	if err != nil {
		return fmt.Errorf("open backups: %w", err)
	}
	n.backups = r
	return nil
}

func backupInterval(c config.Storage) time.Duration {
	return time.Duration(c.BackupInterval) * time.Hour
}

// runBackups makes backups at their times, until ctx ends. Nobody uses the journal
// for them when it has returned.
func (n *Node) runBackups(ctx context.Context) error {
	if n.backups == nil {
		<-ctx.Done()
		return nil
	}
	n.backups.Run(ctx)
	return nil
}

// closeBackups lets go of the journal.
func (n *Node) closeBackups() {
	if n.backups != nil {
		n.backups.Close()
	}
}

// reloadBackups puts another interval and number of backups into force.
func (n *Node) reloadBackups(c config.Storage) {
	if n.backups != nil {
		n.backups.Set(backupInterval(c), c.BackupKeep)
	}
}

// backupCheck says whether there is a good backup that is not too old.
func (n *Node) backupCheck() []admin.Check {
	if n.backups == nil {
		return nil
	}
	s := n.backups.Status()
	c := admin.Check{Name: "backup", OK: true, Degraded: s.Failure != nil || s.Overdue}
	if c.Degraded {
		c.Detail = backupTrouble(&s)
	}
	return []admin.Check{c}
}

func backupTrouble(s *backup.Status) string {
	age := s.Age.Round(time.Second)
	last := fmt.Sprintf("there is none since the start %v ago", age)
	if s.Last != nil {
		last = fmt.Sprintf("the last good one, %s, is %v old", s.Last.Name(), age)
	}
	if s.Failure == nil {
		return last
	}
	return fmt.Sprintf("the last attempt failed: %v; %s", s.Failure, last)
}

// errNoBackups is what a node without a journal or a backup directory answers.
var errNoBackups = fmt.Errorf("%w: this node makes no backups; storage.persistence_enabled and storage.backup_dir say where", admin.ErrUnavailable)

// apiBackup makes a backup for an operator.
func (n *Node) apiBackup(ctx context.Context, progress func(done, total int64)) (admin.Backup, error) {
	if !n.opened.Load() {
		return admin.Backup{}, fmt.Errorf("%w: the node is starting", admin.ErrUnavailable)
	}
	if n.backups == nil {
		return admin.Backup{}, errNoBackups
	}
	m, err := n.backups.Now(ctx, progress)
	switch {
	case errors.Is(err, backup.ErrRunning):
		return admin.Backup{}, fmt.Errorf("%w: %w", admin.ErrBusy, err)
	case errors.Is(err, backup.ErrClosed):
		return admin.Backup{}, fmt.Errorf("%w: the node is stopping", admin.ErrUnavailable)
	case m.Format == 0:
		return admin.Backup{}, err
	}
	return apiBackupOf(&m, n.config.Storage.BackupDir+"/"+m.Name()), err
}

func (n *Node) apiBackups() ([]admin.Backup, error) {
	if !n.opened.Load() || n.backups == nil {
		return nil, nil
	}
	all, err := n.backups.List()
	var list []admin.Backup
	for i := range all {
		b := &all[i]
		shown := apiBackupOf(&b.Manifest, b.Path)
		if b.Err != nil {
			shown = admin.Backup{Name: b.Name, Path: b.Path, NodeID: b.NodeID, Created: b.Created, Problem: b.Err.Error()}
		}
		list = append(list, shown)
	}
	return list, err
}

func apiBackupOf(m *backup.Manifest, path string) admin.Backup {
	return admin.Backup{
		Name: m.Name(), Path: path, NodeID: m.NodeID, Created: m.Created, Entries: m.Entries, Bytes: m.Bytes,
		Root: m.Root.String(), Version: kv.Version(m.Version).String(), Program: m.Program,
	}
}
