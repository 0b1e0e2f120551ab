package main

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"merklekv/pkg/broker"
	"merklekv/pkg/config"
)

func (a *app) brokerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "broker", Short: "Run an MQTT broker for a cluster, without a node", Args: cobra.NoArgs,
		Long: "Runs the MQTT broker of a cluster, without a node. It is configured by the keys of\n" +
			"[broker], by mqtt.topic_prefix and by [logging].",
	}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sources := a.sources(cmd)
		sources.Partial = true
		return a.runService(cmd.Context(), sources, openBroker)
	}
	return cmd
}

// brokerService is a broker as serve runs it.
type brokerService struct{ broker *broker.Broker }

func openBroker(_ context.Context, c config.Config, logger *slog.Logger) (runner, error) {
	b, err := broker.New(broker.Options{
		Address: net.JoinHostPort(c.Broker.BindAddress, strconv.Itoa(c.Broker.BindPort)),
		Prefix:  c.MQTT.TopicPrefix,
		Users:   c.Broker.Accounts(),
		Logger:  logger,
	})
	if err != nil {
		return nil, err
	}
	return &brokerService{b}, nil
}

// Run serves until ctx ends.
func (s *brokerService) Run(ctx context.Context) error { return s.broker.Serve(ctx) }

// Reload replaces the users.
func (s *brokerService) Reload(c config.Config, changed []string) {
	if slices.Contains(changed, "broker.users") {
		s.broker.SetUsers(c.Broker.Accounts())
	}
}
