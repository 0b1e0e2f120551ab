package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"merklekv/pkg/config"
)

// app is one run of the program: what it was given, and where it writes.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	signals        <-chan os.Signal // SIGHUP only; the others end the context
	open           openNode
	began          bool // a command was understood and has begun
}

// run runs the program and returns its exit code. The first SIGINT or SIGTERM
// ends ctx; the second makes run return without waiting for what is running.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ends := make(chan os.Signal, 2)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(ends)

	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ, signals: hangups, open: newNode}
	return a.runUntil(ctx, args, ends)
}

// runUntil executes the command line until it is done or ends has given a second
// signal.
func (a *app) runUntil(ctx context.Context, args []string, ends <-chan os.Signal) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- a.execute(ctx, args) }()
	signalled := false
	for {
		select {
		case err := <-done:
			return a.report(err)
		case s := <-ends:
			if signalled {
				fmt.Fprintf(a.stderr, "merklekv: %v again: not waiting any longer\n", s)
				return exitForced
			}
			signalled = true
			cancel(fmt.Errorf("signal: %v", s))
		}
	}
}

// execute runs the command line.
func (a *app) execute(ctx context.Context, args []string) error {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.began {
		return &usageError{err}
	}
	return err
}

// report tells the user what went wrong and returns the exit code.
func (a *app) report(err error) int {
	code := exitCode(err)
	var compared *comparisonError
	if errors.As(err, &compared) && compared.err == nil {
		return code // the command has said it all
	}
	if code != exitOK {
		fmt.Fprintf(a.stderr, "merklekv: %v\n", err)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(a.stderr, "Run 'merklekv --help' for the commands and flags that there are.")
	}
	return code
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "merklekv",
		Short: "A leaderless, replicated key-value store",
		Long: "merklekv runs one node of a leaderless, replicated key-value store.\n" +
			"Without a command it is 'merklekv serve'. Without any configuration it runs a\n" +
			"single node with its own MQTT broker, for this machine only.",
		Example: "  merklekv --config configs/node1.toml\n" +
			"  MERKLE_KV_NODE_ID=a merklekv --broker-address tcp://localhost:1883",
		SilenceErrors: true, SilenceUsage: true,
		RunE: a.serve,
	}
	root.PersistentPreRun = func(*cobra.Command, []string) { a.began = true }
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	configFlags(root)
	root.AddCommand(a.serveCommand(), a.brokerCommand(), a.configCommand(), a.healthCommand(), a.versionCommand(),
		a.verifyCommand(), a.diffCommand(), a.syncCommand(), a.tailCommand(), a.dataCommand(), a.backupCommand())
	return root
}

// flagError adds the nearest flag to an error about an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return fmt.Errorf("%w; did you mean --%s?", err, config.Nearest(unknown.GetSpecifiedName(), names))
}

// configFlags adds the flags that configure a node.
func configFlags(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "TOML configuration file")
	config.AddFlags(cmd.Flags())
}

// sources are where the configuration of a command with configFlags comes from.
func (a *app) sources(cmd *cobra.Command) config.Sources {
	file, _ := cmd.Flags().GetString("config") // the flag exists
	return config.Sources{File: file, Environ: a.environ, Flags: cmd.Flags()}
}
