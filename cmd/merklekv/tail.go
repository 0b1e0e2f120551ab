package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"merklekv/pkg/config"
	"merklekv/pkg/replication"
)

// tailFlags are the flags of the command beside those of the configuration.
type tailFlags struct {
	broker, prefix, keyPrefix string
	heads, json               bool
}

func (a *app) tailCommand() *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use: "tail", Short: "Show the changes that nodes publish, as they come", Args: cobra.NoArgs,
		Long: "Listens at the broker to what the nodes of a cluster publish, and shows one change a\n" +
			"line: time, node, sequence, what was done. Broker, topic prefix, cluster secret, user\n" +
			"and password come from the configuration. With a cluster secret the signatures are\n" +
			"checked, and what is not signed is named and not shown. Changes that nodes fetch from\n" +
			"each other do not come this way. SIGINT and SIGTERM end it with exit code 0.",
		Example: "  merklekv tail\n" +
			"  merklekv tail --broker tcp://localhost:1883 --prefix cluster-merkle-kv --key-prefix user:",
	}
	configFlags(cmd)
	cmd.Flags().StringVar(&f.broker, "broker", "", "listen at this broker (default: the first that the configuration names)")
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "topic prefix of the cluster (default: mqtt.topic_prefix)")
	cmd.Flags().StringVar(&f.keyPrefix, "key-prefix", "", "show changes of keys that begin so, no others")
	cmd.Flags().BoolVar(&f.heads, "heads", false, "show heads too: what each node tells of itself every second")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sources := a.sources(cmd)
		sources.Partial = true
		loaded, err := config.Load(sources)
		if err != nil {
			return err
		}
		return a.tail(cmd.Context(), f, loaded.Config)
	}
	return cmd
}

func (a *app) tail(ctx context.Context, f tailFlags, c config.Config) error {
	if f.broker == "" {
		f.broker = tailBroker(c)
	}
	if f.prefix == "" {
		f.prefix = c.MQTT.TopicPrefix
	}
	t := &tail{flags: f, out: a.stdout, names: make(map[uint64]string)}
	return replication.Follow(ctx, replication.FollowOptions{
		Broker: f.broker, Prefix: f.prefix, Heads: f.heads,
		Username: c.MQTT.Username, Password: c.MQTT.Password.Reveal(),
		Secret:   []byte(c.Security.ClusterSecret.Reveal()),
		ClientID: fmt.Sprintf("merklekv-tail-%d-%s", os.Getpid(), rand.Text()[:8]),
		OnState: func(up bool, why error) {
			if up {
				fmt.Fprintf(a.stderr, "listening at %s to %s\n", f.broker, f.prefix)
				return
			}
			if ctx.Err() != nil {
				return // it ends
			}
			fmt.Fprintf(a.stderr, "not connected to %s, trying again: %v\n", f.broker, why)
		},
		OnDropped: func(topic string, why error) {
			fmt.Fprintf(a.stderr, "message on %s is not shown: %v\n", topic, why)
		},
	}, t.show)
}

// tailBroker returns the broker that the node of the configuration uses.
func tailBroker(c config.Config) string {
	if brokers := c.MQTT.Brokers(); len(brokers) > 0 {
		return brokers[0]
	}
	return config.Reach(c.Broker.BindAddress, c.Broker.BindPort)
}
