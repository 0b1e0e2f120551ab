package node

import (
	"time"

	"merklekv/pkg/antientropy"
)

// MaxDrift shows tests the limit that is in force.
func (n *Node) MaxDrift() time.Duration { return n.maxDrift() }

// RepairLimits shows tests the limits of repair that are in force.
func (n *Node) RepairLimits() antientropy.Limits { return n.repair.Limits() }
