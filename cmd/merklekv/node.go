package main

import (
	"context"
	"log/slog"

	"merklekv/pkg/config"
	"merklekv/pkg/node"
)

// newNode makes the node that serve runs.
func newNode(ctx context.Context, c config.Config, logger *slog.Logger) (runner, error) {
	return node.New(ctx, node.Options{Config: c, Version: version, Logger: logger, OwnsProcess: true})
}
