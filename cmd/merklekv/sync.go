package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) syncCommand() *cobra.Command {
	var pair pairFlags
	var full, verify bool
	cmd := &cobra.Command{
		Use: "sync", Short: "Make two nodes equal now, and show what that took", Args: cobra.NoArgs,
		Long: "Has one node run a repair session with another one. Both take what is newer at the\n" +
			"other end; nothing is removed because one side lacks it. Nodes do this by themselves\n" +
			"when they differ.\n\n" + comparisonCodes + "\n" +
			"A session that repaired what differed ends with 0.",
		Example: "  merklekv sync --node localhost:7878 --with node2.cluster:7878\n" +
			"  merklekv sync --node localhost:7878 --with node2.cluster:7878 --verify",
	}
	pair.add(cmd)
	cmd.Flags().BoolVar(&full, "full", false, "exchange every key, whatever the hashes say")
	cmd.Flags().BoolVar(&verify, "verify", false, "count what differs and change nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if full && verify {
			return &usageError{errors.New("--verify changes nothing, so --full says nothing; give one of them")}
		}
		c, other, err := pair.dial(cmd.Context())
		if err != nil {
			return err
		}
		defer c.close()
		request := append([]string{"SYNC"}, other...)
		if full {
			request = append(request, "--full")
		}
		if verify {
			request = append(request, "--verify")
		}
		answer, err := c.ask(request...)
		if err != nil {
			return pair.failed(err)
		}
		return a.showSync(answer, &pair)
	}
	return cmd
}

// showSync prints the answer to SYNC in words.
func (a *app) showSync(answer string, pair *pairFlags) error {
	word, rest, _ := strings.Cut(answer, " ")
	switch word {
	case "OK":
		f := fields(rest)
		_, err := fmt.Fprintf(a.stdout, "%s and %s compared %s and repaired %s, with %s in %s, in %s ms\n",
			pair.node, pair.with, counted(f["compared"], "key", "keys"), counted(f["repaired"], "entry", "entries"),
			counted(f["bytes"], "byte", "bytes"), counted(f["rounds"], "round trip", "round trips"), f["ms"])
		return unknown(err)
	case sameNodes.String():
		_, err := fmt.Fprintf(a.stdout, "%s and %s are equal\n", pair.node, pair.with)
		return unknown(err)
	case differentNodes.String():
		if _, err := fmt.Fprintf(a.stdout, "%s and %s differ in %s; merklekv diff shows which\n", pair.node, pair.with, counted(rest, "entry", "entries")); err != nil {
			return unknown(err)
		}
		return differentNodes.asError()
	}
	return unknown(fmt.Errorf("%s answers SYNC with %.80q; is it another version?", pair.node, answer))
}
