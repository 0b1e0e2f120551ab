package node

import (
	"testing"
	"time"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/config"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

func TestStuckPeerIsNamedWithItsKeys(t *testing.T) {
	c := stuckCheck("node2", &antientropy.Stuck{Sessions: 4, Keys: [][]byte{[]byte("user:a b"), {0xff}}})
	if !c.OK || !c.Degraded || c.Name != "repair with node2" ||
		c.Detail != "4 sessions in a row moved nothing and ended unequal; keys user:a%20b %FF" {
		t.Errorf("got %+v", c)
	}
	if c := stuckCheck("node2", &antientropy.Stuck{Sessions: 3}); c.Detail != "3 sessions in a row moved nothing and ended unequal" {
		t.Errorf("without keys: %q", c.Detail)
	}
}

func TestPeerCheck(t *testing.T) {
	n := &Node{config: config.Default()}
	head := &replication.Head{Params: protocol.PeerParams{EpochMillis: 1000, HashID: "h", TombstoneGrace: 7}}
	for name, tc := range map[string]struct {
		peer replication.PeerStatus
		none bool
		want string // detail; empty: all is well
	}{
		"well":             {peer: replication.PeerStatus{Live: true, Head: head, ParamsEqual: true}},
		"no head yet":      {peer: replication.PeerStatus{Live: true}},
		"silent":           {peer: replication.PeerStatus{Heard: 90 * time.Second}, want: "not heard for 1m30s"},
		"gone for long":    {peer: replication.PeerStatus{Heard: time.Hour}, none: true},
		"paused":           {peer: replication.PeerStatus{Live: true, ParamsEqual: true, Head: &replication.Head{Paused: true}}, want: "it has paused replication; REPLICATE enable there ends that"},
		"other parameters": {peer: replication.PeerStatus{Live: true, Head: head}, want: `other parameters, so nothing is repaired between us: there epoch 1000 ms, hash "h", tombstone_grace 7 s, here epoch 1000 ms, hash "merklekv-sha256-1", tombstone_grace 3600 s`},
	} {
		p := tc.peer
		p.NodeID, p.Instance = "node2", 2
		got := n.peerCheck(&p, []replication.PeerStatus{p})
		switch {
		case tc.none != (len(got) == 0):
			t.Errorf("%s: %+v", name, got)
		case !tc.none && (got[0].Name != "peer node2" || !got[0].OK || got[0].Detail != tc.want || got[0].Degraded != (tc.want != "")):
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDiskThatIsBehind(t *testing.T) {
	behind := false
	for i, step := range []struct {
		queued int64
		want   bool
	}{{0, false}, {queuedHigh, false}, {queuedHigh + 1, true}, {queuedLow, true}, {queuedLow - 1, false}, {queuedLow, false}} {
		if behind = isBehind(behind, step.queued); behind != step.want {
			t.Errorf("step %d: %d bytes queued, behind %t", i, step.queued, behind)
		}
	}
}
