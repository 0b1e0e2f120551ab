package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"merklekv/pkg/config"
	"merklekv/pkg/volume"
)

func (a *app) dataCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "data", Short: "Look at a node's data directory, give it to another node, or set its journal aside", Args: cobra.NoArgs,
		Long: "Works on the data directory of a node: storage.data_dir of the configuration, or --data-dir.\n" +
			"What changes something is refused while a node uses the directory.\n\n" +
			"Exit code 0 says that it was done; 1 that it was not; 2 that the command line or the\n" +
			"configuration has to be changed; 5 that volume.json or clock is damaged.",
		RunE: func(*cobra.Command, []string) error {
			return &usageError{errors.New("data needs to know what to do: info, rename or reseed")}
		},
	}
	cmd.AddCommand(a.dataInfoCommand(), a.dataRenameCommand(), a.dataReseedCommand())
	return cmd
}

// dataDir returns the data directory that the flags and the configuration name.
func (a *app) dataDir(cmd *cobra.Command) (string, error) {
	sources := a.sources(cmd)
	sources.Partial = true
	loaded, err := config.Load(sources)
	if err != nil {
		return "", err
	}
	return loaded.Config.Storage.DataDir, nil
}

// inspect looks at a data directory, for which there is a remedy when it is not one.
func inspect(dir string) (volume.Info, error) {
	info, err := volume.Inspect(vfs.Default, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, volume.ErrNotVolume) {
		err = &usageError{fmt.Errorf("%w; --data-dir names a node's data directory, as does storage.data_dir in a file given by --config", err)}
	}
	return info, err
}

func (a *app) dataInfoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "info", Short: "Show whose data a directory holds, and how much", Args: cobra.NoArgs,
		Long: "Shows the identity of a data directory, the upper bound of the timestamps that its node\n" +
			"has issued, and how large the journal is. A node may be using the directory.",
		Example: "  merklekv data info --data-dir data/node-1\n  merklekv data info --config configs/node1.toml",
	}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := a.dataDir(cmd)
		if err != nil {
			return err
		}
		info, err := inspect(dir)
		if info.NodeID == "" && err != nil {
			return err
		}
		return errors.Join(err, showInfo(a.stdout, dir, &info))
	}
	return cmd
}

// showInfo prints what is known of a data directory.
func showInfo(out io.Writer, dir string, info *volume.Info) error {
	bound := "none is known"
	if info.Bound != 0 {
		bound = "no timestamp above " + info.Bound.String() + " was issued"
	}
	journal := "none"
	if info.JournalBytes > 0 {
		journal = sizeText(info.JournalBytes) + " in " + filepath.Join(dir, "journal")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "directory\t%s\n", dir)
	fmt.Fprintf(table, "node\t%s\n", info.NodeID)
	fmt.Fprintf(table, "volume\t%016x\n", info.ID)
	fmt.Fprintf(table, "format\t%d\n", info.Format)
	fmt.Fprintf(table, "created\t%s\n", info.Created.Format(time.RFC3339))
	fmt.Fprintf(table, "clock\t%s\n", bound)
	fmt.Fprintf(table, "journal\t%s\n", journal)
	for _, name := range info.Aside {
		fmt.Fprintf(table, "set aside\t%s\n", filepath.Join(dir, name))
	}
	return table.Flush()
}

// withYes adds the flag without which a command only says what it would do.
func withYes(cmd *cobra.Command, yes *bool) {
	configFlags(cmd)
	cmd.Flags().BoolVar(yes, "yes", false, "do it; without, only say what would be done")
}

func (a *app) dataRenameCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "rename NODE_ID", Short: "Give a data directory to another node", Args: cobra.ExactArgs(1),
		Long: "Writes the identity of a data directory anew: for the node NODE_ID, which may be the same\n" +
			"as before, and as a volume of its own. It is for a copy of another node's directory, and\n" +
			"for a volume.json that is damaged or lost. The journal and the clock's bound stay.",
		Example: "  merklekv data rename node-4 --data-dir /data --yes",
	}
	withYes(cmd, &yes)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := a.dataDir(cmd)
		if err != nil {
			return err
		}
		if !yes {
			return renameAsks(dir, args[0])
		}
		if err := volume.Rename(vfs.Default, dir, args[0]); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s is the data of node %s, and a volume of its own\n", dir, args[0])
		return err
	}
	return cmd
}

// renameAsks says what a rename would do. The identity may be damaged or lost.
func renameAsks(dir, nodeID string) error {
	whose := "data whose volume.json cannot be read"
	info, err := volume.Inspect(vfs.Default, dir)
	switch {
	case info.NodeID != "":
		whose = "the data of node " + info.NodeID
	case info.JournalBytes == 0 && !errors.Is(err, volume.ErrDamaged):
		_, err := inspect(dir)
		return err
	}
	return &usageError{fmt.Errorf("%s holds %s; this would give it to node %s, as a volume of its own; give --yes to do it",
		dir, whose, nodeID)}
}

func (a *app) dataReseedCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "reseed", Short: "Set a journal aside, so that the node fetches everything from its peers", Args: cobra.NoArgs,
		Long: "Renames the journal in a data directory to journal.damaged-<time>; nothing is deleted.\n" +
			"The node begins its next start with an empty journal and fetches from its peers all that\n" +
			"they hold. What only this node had, such as writes that it acknowledged while it was cut\n" +
			"off, and all of it where there are no peers, is gone then unless the directory that was\n" +
			"set aside can be read, or a backup holds it. It is for a journal that cannot be opened.",
		Example: "  merklekv data reseed --config configs/node1.toml --yes",
	}
	withYes(cmd, &yes)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := a.dataDir(cmd)
		if err != nil {
			return err
		}
		info, err := inspect(dir)
		if err != nil && info.NodeID == "" {
			return err
		}
		if !yes {
			return &usageError{fmt.Errorf("this would set the journal of node %s aside, %s in %s: everything comes from its peers at the "+
				"next start, and what only this node had is gone unless the journal that is set aside can be read; give --yes to do it",
				info.NodeID, sizeText(info.JournalBytes), dir)}
		}
		return a.reseed(dir, &info)
	}
	return cmd
}

func (a *app) reseed(dir string, info *volume.Info) error {
	aside, err := volume.Reseed(vfs.Default, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has no journal; at its next start node %s fetches everything from its peers as it is", dir, info.NodeID)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "the journal of node %s, %s, is now %s\n"+
		"At its next start the node fetches everything from its peers. What only this node had is in that\n"+
		"directory and in its backups, nowhere else: remove it when you miss nothing.\n",
		info.NodeID, sizeText(info.JournalBytes), aside)
	return err
}
