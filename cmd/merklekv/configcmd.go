package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"merklekv/pkg/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check or show the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{fmt.Errorf("config needs to know what to do: check or print")}
		},
	}
	cmd.AddCommand(
		a.loadCommand("check", "Say whether the configuration is valid, and if not, everything that is wrong", checkConfig),
		a.loadCommand("print", "Show every key, its value and where that comes from", printConfig),
	)
	return cmd
}

// loadCommand is a command that does something with the configuration.
func (a *app) loadCommand(name, short string, do func(*cobra.Command, *config.Loaded) error) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := config.Load(a.sources(cmd))
		if err != nil {
			return err
		}
		for _, notice := range loaded.Notices {
			fmt.Fprintf(a.stderr, "note: %s\n", notice)
		}
		return do(cmd, loaded)
	}
	return cmd
}

func checkConfig(cmd *cobra.Command, _ *config.Loaded) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "configuration is valid")
	return err
}

func printConfig(cmd *cobra.Command, loaded *config.Loaded) error {
	return loaded.Print(cmd.OutOrStdout())
}
