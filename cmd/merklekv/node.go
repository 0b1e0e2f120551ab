package main

import (
	"log/slog"

	"merklekv/pkg/config"
	"merklekv/pkg/node"
)

// newNode makes the node that serve runs.
func newNode(c config.Config, logger *slog.Logger) (runner, error) {
	return node.New(node.Options{Config: c, Version: version, Logger: logger})
}
