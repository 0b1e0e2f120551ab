package node

import "time"

// MaxDrift shows tests the limit that is in force.
func (n *Node) MaxDrift() time.Duration { return n.maxDrift() }
