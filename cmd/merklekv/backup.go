package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"merklekv/pkg/admin"
	"merklekv/pkg/backup"
	"merklekv/pkg/config"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
	"merklekv/pkg/volume"
)

func (a *app) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup", Short: "Make, list, verify and restore backups", Args: cobra.ArbitraryArgs,
		Long: "Makes, lists, verifies and restores backups of a node's data. A node with\n" +
			"storage.persistence_enabled and storage.backup_dir makes them by itself, too, every\n" +
			"storage.backup_interval_hours.\n\n" +
			"Exit code 0 says that it was done, or that the backup is whole; 1 that it was not\n" +
			"done, or that the backup is not whole; 2 that the command line or the configuration\n" +
			"has to be changed; 5, of create, that the journal is damaged.",
		RunE: func(*cobra.Command, []string) error {
			return &usageError{errors.New("say what to do: backup create, list, verify or restore")}
		},
	}
	cmd.AddCommand(a.backupCreateCommand(), a.backupListCommand(), a.backupVerifyCommand(), a.backupRestoreCommand())
	return cmd
}

// backupFlags are what the backup commands have in common.
type backupFlags struct {
	dir      string
	progress bool
}

func (f *backupFlags) add(cmd *cobra.Command) {
	configFlags(cmd)
	cmd.Flags().StringVar(&f.dir, "backup-dir", "", "directory of the backups (default: storage.backup_dir)")
}

func (f *backupFlags) addProgress(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.progress, "progress", false, "show progress, also where standard error is no terminal")
}

// load returns the configuration and the directory of the backups, which may be
// empty.
func (f *backupFlags) load(a *app, cmd *cobra.Command) (config.Config, string, error) {
	sources := a.sources(cmd)
	sources.Partial = true
	loaded, err := config.Load(sources)
	if err != nil {
		return config.Config{}, "", err
	}
	dir := loaded.Config.Storage.BackupDir
	if f.dir != "" {
		dir = f.dir
	}
	return loaded.Config, dir, nil
}

var errNoBackupDir = &usageError{errors.New("no directory of backups is known; give --backup-dir, or storage.backup_dir in the configuration")}

func (a *app) backupCreateCommand() *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use: "create", Short: "Make a backup now", Args: cobra.NoArgs,
		Long: "Has the node that runs on the data directory make a backup, asked at its admin port;\n" +
			"it goes on serving. Where no node runs, the backup is made from the data directory\n" +
			"itself. Older ones than storage.backup_keep are removed once the new one is whole.",
		Example: "  merklekv backup create --config configs/node1.toml\n" +
			"  merklekv backup create --data-dir /data --backup-dir /backups",
	}
	flags.add(cmd)
	flags.addProgress(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, dir, err := flags.load(a, cmd)
		if err != nil {
			return err
		}
		show := a.newProgress("backup", flags.progress)
		made, err := createBackup(cmd.Context(), &c, dir, flags.dir != "", show.tell)
		show.end()
		if made.Name != "" {
			fmt.Fprintf(a.stdout, "%s holds %s in %s, root %s\n", made.Path, counted(fmt.Sprint(made.Entries), "entry", "entries"), sizeText(made.Bytes), made.Root)
		}
		return err
	}
	return cmd
}

// createBackup makes a backup: from the data directory if nobody uses that, else by
// asking the node.
func createBackup(ctx context.Context, c *config.Config, dir string, dirGiven bool, tell backup.Progress) (admin.Backup, error) {
	v, err := openStopped(c)
	switch {
	case err != nil:
		return admin.Backup{}, err
	case v != nil:
		return backupStopped(ctx, v, c, dir, tell)
	case dirGiven:
		return admin.Backup{}, &usageError{errors.New("a node that runs makes its backups in its own storage.backup_dir; leave out --backup-dir")}
	}
	return askForBackup(ctx, "http://"+config.Reach(c.Admin.BindAddress, c.Admin.BindPort)+admin.BackupsPath, tell)
}

// openStopped opens the volume of a node that does not run, nil if one does, or if
// there is no volume where the configuration says.
func openStopped(c *config.Config) (*volume.Volume, error) {
	info, err := volume.Inspect(vfs.Default, c.Storage.DataDir)
	if errors.Is(err, volume.ErrNotVolume) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	nodeID := c.NodeID
	if nodeID == "" {
		nodeID = info.NodeID
	}
	v, err := volume.Open(c.Storage.DataDir, nodeID, volume.Options{})
	if errors.Is(err, volume.ErrInUse) {
		return nil, nil
	}
	return v, err
}

// backupStopped makes a backup of a volume that no node uses, and closes the volume.
func backupStopped(ctx context.Context, v *volume.Volume, c *config.Config, dir string, tell backup.Progress) (made admin.Backup, err error) {
	defer func() { err = errors.Join(err, v.Close(v.Bound())) }()
	if dir == "" {
		return made, errNoBackupDir
	}
	if _, err := os.Stat(v.JournalDir()); err != nil {
		return made, fmt.Errorf("nothing to back up in %s: %w", v.Dir(), err)
	}
	info, err := volume.Inspect(vfs.Default, v.Dir())
	if err != nil {
		return made, err
	}
	j, err := disk.Open(v.JournalDir(), disk.Options{})
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	m, err := backup.Create(ctx, j, backup.Options{
		Dir: dir, NodeID: info.NodeID, Volume: v.ID(), DataDir: v.Dir(), Program: version, Keep: c.Storage.BackupKeep, Progress: tell,
	})
	if m.Format != 0 {
		made = admin.Backup{Name: m.Name(), Path: filepath.Join(dir, m.Name()), Entries: m.Entries, Bytes: m.Bytes, Root: m.Root.String()}
	}
	return made, err
}

// askForBackup has a node make a backup.
func askForBackup(ctx context.Context, url string, tell backup.Progress) (admin.Backup, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return admin.Backup{}, err
	}
	// No proxy: what is asked is on this machine.
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return admin.Backup{}, fmt.Errorf("no answer; is the node running, and is admin.bind_port right? "+
			"(without a node, storage.data_dir has to be its data directory) %w", err)
	}
	defer response.Body.Close()
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "application/jsonl") {
		return admin.Backup{}, fmt.Errorf("what answers at %s is no node that makes backups: %s", url, response.Status)
	}
	return readBackupLines(response.Body, tell)
}

// readBackupLines reads how a backup goes on and ends.
func readBackupLines(in io.Reader, tell backup.Progress) (made admin.Backup, err error) {
	for lines := json.NewDecoder(in); ; {
		var line admin.BackupLine
		if err := lines.Decode(&line); err != nil {
			return made, fmt.Errorf("the node has ended, or cut the connection, before the backup was made: %w", err)
		}
		if line.Backup != nil {
			made = *line.Backup
		}
		switch {
		case line.Error != "":
			return made, errors.New(line.Error)
		case line.Backup != nil:
			return made, nil
		}
		tell(line.Done, line.Total)
	}
}

func (a *app) backupListCommand() *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the backups, newest first", Args: cobra.NoArgs,
		Long: "Lists the backups of all nodes in the directory, newest first. Only their manifests\n" +
			"are read; 'merklekv backup verify' reads the rest.",
	}
	flags.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, dir, err := flags.load(a, cmd)
		if err == nil && dir == "" {
			err = errNoBackupDir
		}
		if err != nil {
			return err
		}
		all, err := backup.List(vfs.Default, dir)
		if err != nil {
			return err
		}
		return a.showBackups(dir, all)
	}
	return cmd
}

func (a *app) showBackups(dir string, all []backup.Backup) error {
	if len(all) == 0 {
		_, err := fmt.Fprintf(a.stdout, "no backups in %s\n", dir)
		return err
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tNODE\tCREATED\tENTRIES\tSIZE\tVERSION")
	for i := range all {
		b := &all[i]
		if b.Err != nil {
			fmt.Fprintf(table, "%s\t%s\t%s\t%v\n", b.Name, b.NodeID, b.Created.Format(time.RFC3339), b.Err)
			continue
		}
		m := &b.Manifest
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\n", b.Name, b.NodeID, m.Created.Format(time.RFC3339), m.Entries, sizeText(m.Bytes), kv.Version(m.Version))
	}
	return table.Flush()
}
