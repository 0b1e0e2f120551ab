package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/backup"
	"merklekv/pkg/config"
	"merklekv/pkg/kv"
)

func (a *app) backupVerifyCommand() *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use: "verify NAME|PATH", Short: "Read a whole backup and say whether it is what was written", Args: cobra.ExactArgs(1),
		Long: "Computes the checksum of every file, reads every entry, and computes the number of\n" +
			"entries and the Merkle root again. Exit code 0 says that all of it is what was\n" +
			"written, 1 that it is not or cannot be read. The backup is not changed.",
	}
	flags.add(cmd)
	flags.addProgress(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, dir, err := flags.load(a, cmd)
		if err != nil {
			return err
		}
		path, err := backupPath(dir, args[0])
		if err != nil {
			return err
		}
		show := a.newProgress("verify", flags.progress)
		m, err := backup.Verify(cmd.Context(), path, backup.VerifyOptions{Progress: show.tell})
		show.end()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s is whole: %s of %s in %s, root %s\n",
			path, counted(fmt.Sprint(m.Entries), "entry", "entries"), m.NodeID, sizeText(m.Bytes), m.Root)
		return err
	}
	return cmd
}

// backupPath returns where a backup is that is named by its path, or by its name in
// the directory of the backups.
func backupPath(dir, name string) (string, error) {
	if strings.ContainsRune(name, os.PathSeparator) {
		return name, nil
	}
	if dir != "" {
		return filepath.Join(dir, name), nil
	}
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	return "", errNoBackupDir
}

func (a *app) backupRestoreCommand() *cobra.Command {
	var flags backupFlags
	var other, yes bool
	cmd := &cobra.Command{
		Use: "restore NAME|PATH", Short: "Make a node's data directory out of a backup", Args: cobra.ExactArgs(1),
		Long: "Verifies a backup and makes a data directory out of it, for the node of --node-id, or\n" +
			"else the one that the backup is of. The directory must be empty or not there, or its\n" +
			"journal set aside by 'merklekv data reseed'; no node may use it.\n\n" +
			"In its cluster the node then takes what it lacks from its peers: what was deleted since\n" +
			"the backup stays deleted, and nothing that another node has is lost. For a cluster of\n" +
			"its own, --new-cluster leaves out the nodes of the old one.",
		Example: "  merklekv backup restore node1-20261122T031500.000Z --backup-dir /backups --data-dir /data --yes\n" +
			"  merklekv backup restore /backups/node1-20261122T031500.000Z --data-dir data --node-id copy --new-cluster --yes",
	}
	flags.add(cmd)
	flags.addProgress(cmd)
	cmd.Flags().BoolVar(&other, "new-cluster", false, "leave out the members of the cluster that the backup is from")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it; without, only say what would be done")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, dir, err := flags.load(a, cmd)
		if err != nil {
			return err
		}
		path, err := backupPath(dir, args[0])
		if err != nil {
			return err
		}
		return a.restoreBackup(cmd, &c, path, &flags, other, yes)
	}
	return cmd
}

func (a *app) restoreBackup(cmd *cobra.Command, c *config.Config, path string, flags *backupFlags, other, yes bool) error {
	m, err := backup.ReadManifest(nil, path)
	if err != nil {
		return err
	}
	nodeID := c.NodeID
	if nodeID == "" {
		nodeID = m.NodeID
	}
	dataDir := c.Storage.DataDir
	if !yes {
		return &usageError{fmt.Errorf("this would make %s the data of node %s as %s was at %s, %s; give --yes to do it",
			dataDir, nodeID, m.NodeID, m.Created.Format("2006-01-02 15:04:05 UTC"), counted(fmt.Sprint(m.Entries), "entry", "entries"))}
	}
	o := backup.RestoreOptions{}
	if other {
		o.Leave = isMember
	}
	show := a.newProgress("restore", flags.progress)
	o.Progress = show.tell
	done, err := backup.Restore(cmd.Context(), path, dataDir, nodeID, o)
	show.end()
	if errors.Is(err, backup.ErrNotEmpty) {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s is the data of node %s: %s up to version %s\n",
		dataDir, nodeID, counted(fmt.Sprint(done.Entries-done.Left), "entry", "entries"), kv.Version(done.Version))
	if other && err == nil {
		_, err = fmt.Fprintf(a.stdout, "left out: %s of the cluster that the backup is from\n", counted(fmt.Sprint(done.Left), "member", "members"))
	}
	return err
}

// isMember reports whether an entry says that a node belongs, or belonged, to the
// cluster.
func isMember(e *kv.Entry) bool {
	return e.IsReserved() && bytes.HasPrefix(e.Facet, antientropy.MemberFacet(""))
}
