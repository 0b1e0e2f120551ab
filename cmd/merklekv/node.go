package main

import (
	"errors"
	"log/slog"

	"merklekv/pkg/config"
)

// newNode makes the node that serve runs.
func newNode(config.Config, *slog.Logger) (runner, error) {
	return nil, errors.New("this build has no node")
}
