package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// maxDiffLimit is the greatest limit that a node takes.
const maxDiffLimit = 10_000

// pairFlags are the two nodes of diff and sync.
type pairFlags struct{ node, with string }

func (p *pairFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.node, "node", "", "host:port of the client port of the node that is asked")
	cmd.Flags().StringVar(&p.with, "with", "", "host:port of the other node, as the first one reaches it")
}

// dial connects to the node that is asked and returns the words that name the
// other one. The flags have ports then.
func (p *pairFlags) dial(ctx context.Context) (c *nodeClient, other []string, err error) {
	if p.node == "" || p.with == "" {
		return nil, nil, &usageError{errors.New("two nodes are compared: name them by --node and --with")}
	}
	if p.node, err = nodeAddress("node", p.node); err != nil {
		return nil, nil, err
	}
	if p.with, err = nodeAddress("with", p.with); err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(p.with)
	if err != nil {
		return nil, nil, &usageError{err}
	}
	c, err = dialNode(ctx, p.node)
	return c, []string{host, port}, unknown(err)
}

// failed explains what a node answers that cannot reach the other one.
func (p *pairFlags) failed(err error) error {
	var answered *answerError
	if errors.As(err, &answered) && answered.message == protocol.ErrConnectionFailed.Error() {
		err = fmt.Errorf("%w: it cannot reach %s; is that the other node's client port, as %s sees it?", err, p.with, p.node)
	}
	return unknown(err)
}

func (a *app) diffCommand() *cobra.Command {
	var pair pairFlags
	limit := 100
	cmd := &cobra.Command{
		Use: "diff", Short: "Show which keys two nodes hold in different versions", Args: cobra.NoArgs,
		Long: "Has one node compare itself with another one, and shows the keys that differ, with\n" +
			"the version that each holds: when it was written, and by which instance. Nothing is\n" +
			"changed.\n\n" + comparisonCodes,
		Example: "  merklekv diff --node localhost:7878 --with node2.cluster:7878",
	}
	pair.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", limit, fmt.Sprintf("show so many differences at most, 1 to %d", maxDiffLimit))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 1 || limit > maxDiffLimit {
			return &usageError{fmt.Errorf("--limit is %d; it is a number from 1 to %d", limit, maxDiffLimit)}
		}
		c, other, err := pair.dial(cmd.Context())
		if err != nil {
			return err
		}
		defer c.close()
		head, err := c.ask("DIFF", other[0], other[1], strconv.Itoa(limit))
		if err != nil {
			return pair.failed(err)
		}
		return a.showDiff(c, head, &pair)
	}
	return cmd
}

// showDiff prints the answer to DIFF, whose first line is head.
func (a *app) showDiff(c *nodeClient, head string, pair *pairFlags) error {
	text := strings.TrimPrefix(head, "DIFF ")
	total, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return unknown(fmt.Errorf("%s answers DIFF with %.80q; is it another version?", c.addr, head))
	}
	out := bufio.NewWriter(a.stdout)
	shown := int64(0)
	for {
		line, err := c.line()
		if err != nil {
			return unknown(c.failed("DIFF", err))
		}
		if line == "END" {
			break
		}
		shown++
		writeDifference(out, fields(line))
	}
	switch {
	case total == 0:
		fmt.Fprintf(out, "no differences between %s and %s\n", pair.node, pair.with)
	case shown < total:
		fmt.Fprintf(out, "%d of %s between %s and %s; --limit shows more\n", shown, counted(text, "difference", "differences"), pair.node, pair.with)
	default:
		fmt.Fprintf(out, "%s between %s and %s\n", counted(text, "difference", "differences"), pair.node, pair.with)
	}
	if err := out.Flush(); err != nil {
		return unknown(err)
	}
	if total > 0 {
		return differentNodes.asError()
	}
	return nil
}

// writeDifference prints one line of DIFF. Keys stay escaped: they hold any byte.
func writeDifference(w io.Writer, f map[string]string) {
	name := f["key"]
	if name == "" {
		name = "(of the cluster)"
	}
	if f["facet"] != "" {
		name += " facet " + f["facet"]
	}
	here, there := f["here"], f["there"]
	newer := ""
	switch {
	case here == there:
		newer = "  same version, other content"
	case here > there: // versions sort as text as they do as versions
		newer = "  here is newer"
	default:
		newer = "  there is newer"
	}
	fmt.Fprintf(w, "%s  here %s  there %s%s\n", name, versionText(here), versionText(there), newer)
}

// versionText shows a version with the time at which it was made.
func versionText(text string) string {
	if text == "" {
		return "nothing"
	}
	v, err := kv.ParseVersion(text)
	if err != nil {
		return text
	}
	return fmt.Sprintf("%s by %016x (%s)", wallText(v.HLC.Millis()), v.Instance, text)
}

// counted returns a number and what it counts.
func counted(n, one, many string) string {
	if n == "1" {
		return n + " " + one
	}
	return n + " " + many
}

// wallText formats milliseconds since 1970 as RFC 3339 has them, in UTC.
func wallText(millis int64) string {
	return time.UnixMilli(millis).UTC().Format("2006-01-02T15:04:05.000Z")
}
