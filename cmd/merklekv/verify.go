package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"merklekv/pkg/config"
	"merklekv/pkg/kv"
)

// verifyEvery is how often --wait asks.
const verifyEvery = 250 * time.Millisecond

// verify is one run of the command.
type verify struct {
	app     *app
	nodes   []string
	version string
	wait    time.Duration
}

func (a *app) verifyCommand() *cobra.Command {
	v := &verify{app: a}
	var given []string
	cmd := &cobra.Command{
		Use: "verify", Short: "Ask nodes whether all replicas are equal", Args: cobra.NoArgs,
		Long: "Asks each node for its root (HASH), and whether all members of its cluster hold the\n" +
			"same (CONVERGED). One node is enough to judge a whole cluster; with several the\n" +
			"answer also tells whether they are of one cluster.\n\n" + comparisonCodes,
		Example: "  merklekv verify\n" +
			"  merklekv verify --node node1:7878 --node node2:7878 --wait 30s",
	}
	configFlags(cmd)
	cmd.Flags().StringArrayVar(&given, "node", nil, "host:port of a node's client port; may be repeated (default: the node of this machine, as the configuration has it)")
	cmd.Flags().StringVar(&v.version, "version", "", "ask about writes up to this version only: an answer while writes go on")
	cmd.Flags().DurationVar(&v.wait, "wait", 0, "ask again until the replicas are equal, for so long at most")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if v.nodes, err = a.nodesToAsk(cmd, given); err != nil {
			return err
		}
		if _, err := kv.ParseVersion(v.version); v.version != "" && err != nil {
			return &usageError{fmt.Errorf("--version: %w", err)}
		}
		return v.run(cmd.Context())
	}
	return cmd
}

// nodesToAsk returns the addresses that were given, or that of the node which the
// configuration describes.
func (a *app) nodesToAsk(cmd *cobra.Command, given []string) ([]string, error) {
	if len(given) == 0 {
		sources := a.sources(cmd)
		sources.Partial = true
		loaded, err := config.Load(sources)
		if err != nil {
			return nil, err
		}
		return []string{config.Reach(loaded.Config.Network.BindAddress, loaded.Config.Network.BindPort)}, nil
	}
	var nodes []string
	for _, g := range given {
		addr, err := nodeAddress("node", g)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, addr)
	}
	return nodes, nil
}

// run asks until the verdict is equal or the time is over, and prints what was
// answered last.
func (v *verify) run(ctx context.Context) error {
	end := time.NewTimer(v.wait)
	defer end.Stop()
	tick := time.NewTicker(verifyEvery)
	defer tick.Stop()
	said := ""
	for {
		answers := v.askAll(ctx)
		verdict, why := judge(answers)
		over := verdict == sameNodes || v.wait <= 0
		if !over {
			if now := strings.ToLower(verdict.String()) + ": " + why; now != said {
				said = now
				fmt.Fprintf(v.app.stderr, "waiting: %s\n", said)
			}
			select {
			case <-tick.C:
				continue
			case <-end.C:
			case <-ctx.Done():
			}
		}
		return v.print(answers, verdict, why)
	}
}

func (v *verify) print(answers []nodeAnswer, verdict comparison, why string) error {
	table := tabwriter.NewWriter(v.app.stdout, 0, 0, 2, ' ', 0)
	for i := range answers {
		n := &answers[i]
		root := n.root
		if root == "" {
			root = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", n.addr, root, n.verdict, n.reason())
	}
	if err := table.Flush(); err != nil {
		return unknown(err)
	}
	if _, err := fmt.Fprintf(v.app.stdout, "%s: %s\n", verdict, why); err != nil {
		return unknown(err)
	}
	return verdict.asError()
}

// nodeAnswer is what one node said.
type nodeAnswer struct {
	addr    string
	root    string // HASH, of the present
	verdict comparison
	details []string // the words after the verdict
	err     error    // it did not say
}

func (v *verify) askAll(ctx context.Context) []nodeAnswer {
	answers := make([]nodeAnswer, len(v.nodes))
	var wg sync.WaitGroup
	for i, addr := range v.nodes {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, nodeAnswerTimeout)
			defer cancel()
			answers[i] = askWhetherEqual(ctx, addr, v.version)
		})
	}
	wg.Wait()
	return answers
}

func askWhetherEqual(ctx context.Context, addr, version string) (a nodeAnswer) {
	a = nodeAnswer{addr: addr, verdict: unknownNodes}
	c, err := dialNode(ctx, addr)
	if err != nil {
		a.err = err
		return a
	}
	defer c.close()
	said := ""
	if said, a.err = c.ask(strings.TrimRight("CONVERGED "+version, " ")); a.err != nil {
		return a
	}
	if a.root, a.err = c.ask("HASH"); a.err != nil {
		return a
	}
	words := strings.Fields(said)
	if len(words) == 0 {
		words = []string{"nothing"}
	}
	a.details = words[1:]
	switch words[0] {
	case sameNodes.String():
		a.verdict = sameNodes
	case differentNodes.String():
		a.verdict = differentNodes
	case unknownNodes.String():
	default:
		a.err = fmt.Errorf("%s answers CONVERGED with %.80q; is it another version?", addr, said)
	}
	if a.verdict == sameNodes && len(a.details) != 2 {
		a.verdict, a.err = unknownNodes, fmt.Errorf("%s answers EQUAL without epoch and root", addr)
	}
	return a
}

// reasons says what the words behind UNKNOWN mean; the nodes that they are about
// follow.
var reasons = map[string]string{
	"parameters": "other parameters, so nothing can be compared, at",
	"unheard":    "no fresh word of",
	"clock":      "a write from the future; are the clocks right?",
	"settling":   "the last writes are too new, or on their way:",
}

// reason says in words what a node answered.
func (n *nodeAnswer) reason() string {
	switch {
	case n.err != nil:
		return n.err.Error()
	case n.verdict == sameNodes:
		return "epoch " + n.details[0]
	case n.verdict == differentNodes:
		return "differs from " + strings.Join(n.details, ", ")
	case len(n.details) == 0:
		return "no reason"
	}
	text := reasons[n.details[0]]
	return strings.TrimRight(n.details[0]+": "+strings.TrimSpace(text+" "+strings.Join(n.details[1:], ", ")), ": ")
}

// judge returns the verdict over what all nodes said, and why.
func judge(answers []nodeAnswer) (comparison, string) {
	for _, wanted := range []comparison{differentNodes, unknownNodes} {
		for i := range answers {
			if n := &answers[i]; n.verdict == wanted {
				if n.err != nil {
					return wanted, n.err.Error()
				}
				return wanted, n.addr + ": " + n.reason()
			}
		}
	}
	first := &answers[0]
	for i := range answers[1:] {
		n := &answers[i+1]
		sameEpoch := n.details[0] == first.details[0]
		switch {
		case sameEpoch && n.details[1] != first.details[1]:
			return differentNodes, first.addr + " and " + n.addr + " are in different clusters: each is equal to its own peers only"
		case !sameEpoch && n.root != first.root:
			return unknownNodes, first.addr + " and " + n.addr + " were asked at different epochs; ask again"
		}
	}
	return sameNodes, fmt.Sprintf("all members of the cluster hold the same (asked %d)", len(answers))
}
