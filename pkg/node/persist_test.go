package node_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"merklekv/pkg/config"
	"merklekv/pkg/node"
	"merklekv/pkg/volume"
)

// persistent is a node alone whose data outlives it.
func persistent(t *testing.T, id string) config.Config {
	c := testConfig(id)
	c.Broker.Enabled = true
	c.Storage.PersistenceEnabled, c.Storage.DataDir = true, t.TempDir()
	return c
}

func TestDataIsThereAfterARestart(t *testing.T) {
	for _, fsync := range []string{"always", "interval", "never"} {
		t.Run(fsync, func(t *testing.T) {
			c := persistent(t, "alone")
			c.Storage.Fsync = fsync
			n := start(t, c).ready()
			for i := range 100 {
				n.do("SET key%d value%d", i, i)
			}
			n.do("DEL key7")
			before := n.dump()
			version := n.Store().Greatest()
			if err := n.halt(); err != nil {
				t.Fatalf("a stopped node returned %v", err)
			}
			again := start(t, c).ready()
			if got := again.dump(); again.do("GET key7") != "(null)" || again.do("GET key99") != "value99" {
				t.Errorf("after the restart there is\n%s\nbefore it was\n%s", got, before)
			}
			again.do("SET key99 again")
			if v := again.Store().Greatest(); !version.Less(v) {
				t.Errorf("a write after the restart has version %v, one before had %v", v, version)
			}
		})
	}
}

func TestDataOfAnotherNodeIsRefused(t *testing.T) {
	c := persistent(t, "first")
	if err := start(t, c).ready().halt(); err != nil {
		t.Fatal(err)
	}
	c.NodeID = "second"
	_, err := node.New(t.Context(), node.Options{Config: c})
	var wrong *volume.WrongNodeError
	if !errors.As(err, &wrong) || wrong.OnDisk != "first" {
		t.Fatalf("data of another node: %v", err)
	}
	c.NodeID = "first"
	start(t, c).ready() // and nothing was left locked
	if _, err := node.New(t.Context(), node.Options{Config: c}); !errors.Is(err, volume.ErrInUse) {
		t.Fatalf("data that is in use: %v", err)
	}
}

func TestStartThatIsCalledOffLeavesNothingBehind(t *testing.T) {
	c := persistent(t, "alone")
	n := start(t, c).ready()
	for i := range 500 {
		n.do("SET key%d value", i)
	}
	if err := n.halt(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := fmt.Errorf("called off")
	cancel(why)
	if _, err := node.New(ctx, node.Options{Config: c}); err != nil && !errors.Is(err, why) {
		t.Fatalf("New whose context has ended: %v", err)
	} else if err == nil {
		t.Fatal("New whose context has ended succeeds")
	}
	if got := start(t, c).ready().do("DBSIZE"); got != "500" {
		t.Errorf("DBSIZE = %s", got)
	}
}
