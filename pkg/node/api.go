package node

import (
	"encoding/hex"
	"fmt"
	"slices"

	"merklekv/pkg/admin"
	"merklekv/pkg/antientropy"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

// api is what the admin port answers from.
func (n *Node) api() admin.API {
	return admin.API{
		Syncs: func(max int) []admin.Sync { return whenOpened(n, func() []admin.Sync { return n.apiSyncs(max) }) },
		Peers: func() []admin.Peer { return whenOpened(n, n.apiPeers) }, Epochs: func() []admin.Epoch { return whenOpened(n, n.apiEpochs) },
		Members: func() []admin.Member { return whenOpened(n, n.apiMembers) },
		Backups: n.apiBackups, Backup: n.apiBackup,
	}
}

// whenOpened returns what there is to list, nothing while the node starts.
func whenOpened[T any](n *Node, list func() []T) []T {
	if !n.opened.Load() {
		return nil
	}
	return list()
}

func (n *Node) apiSyncs(max int) []admin.Sync {
	var list []admin.Sync
	for _, r := range n.repair.Records(max) {
		list = append(list, apiSync(&r))
	}
	return list
}

func apiSync(r *antientropy.Record) admin.Sync {
	res := &r.Result
	s := admin.Sync{
		Number: r.Number, At: r.At.UTC(), Peer: r.NodeID, Instance: instanceText(r.Instance), Address: r.Address,
		Why: r.Why, Mode: res.Mode.String(), Outcome: r.Outcome(), Error: r.Error,
		Millis: float64(r.Took.Microseconds()) / 1000,
		Epoch:  res.Epoch, Success: res.Success, Equal: res.Equal, Partial: res.Partial, Compared: res.Keys, Differing: res.Differing,
		Sample: escapedKeys(res.Sample), Pulled: res.Pulled, Pushed: res.Pushed, Moot: res.Moot, Deferred: res.Deferred,
		Different: res.DifferenceCount, BytesIn: res.BytesIn, BytesOut: res.BytesOut, LinkIn: r.LinkIn, LinkOut: r.LinkOut,
		Turns: res.Turns, RoundTrips: res.RoundTrips,
	}
	for _, d := range res.Differences[:min(len(res.Differences), shownDifferences)] {
		s.Differences = append(s.Differences, admin.Difference{
			Key: escapedKey(d.Key), Facet: escapedKey(d.Facet), Here: versionText(d.Here), There: versionText(d.There),
		})
	}
	return s
}

const shownDifferences = 10

// versionText is a version, or nothing where none is held.
func versionText(v kv.Version) string {
	if v.IsZero() {
		return ""
	}
	return v.String()
}

// apiPeers returns the peers that were heard, and after them the members that
// were not.
func (n *Node) apiPeers() []admin.Peer {
	status := n.replication.Status()
	stuck := make(map[uint64]*admin.PeerStuck)
	for _, s := range n.repair.Stuck() {
		stuck[s.Instance] = &admin.PeerStuck{Sessions: s.Sessions, Keys: escapedKeys(s.Keys)}
	}
	var list []admin.Peer
	for i := range status.Peers {
		p := &status.Peers[i]
		if p.NodeID == "" || p.NodeID == n.config.NodeID || !p.Live && replaced(p, status.Peers) {
			continue
		}
		peer := apiPeer(p)
		peer.Stuck = stuck[p.Instance]
		list = append(list, peer)
	}
	for _, m := range n.members() {
		known := slices.ContainsFunc(list, func(p admin.Peer) bool { return p.NodeID == m.NodeID })
		if m.NodeID != n.config.NodeID && !known {
			list = append(list, admin.Peer{
				NodeID: m.NodeID, Instance: instanceText(m.Instance), Address: m.Address, Epochs: []admin.PeerEpoch{},
			})
		}
	}
	return list
}

func apiPeer(p *replication.PeerStatus) admin.Peer {
	peer := admin.Peer{
		NodeID: p.NodeID, Instance: instanceText(p.Instance), Address: p.Address, Version: p.Version,
		Live: p.Live, Heard: true, HeardMS: p.Heard.Milliseconds(), HeadAgeMS: p.HeadAge.Milliseconds(),
		MQTT: p.ByMQTT, Comparable: p.ParamsEqual, Paused: p.Head != nil && p.Head.Paused,
		LagEntries: p.LagEntries, LagMS: p.LagMillis, Missing: p.Missing, Epochs: []admin.PeerEpoch{},
	}
	for _, e := range p.Epochs {
		peer.Epochs = append(peer.Epochs, admin.PeerEpoch{
			Epoch: e.Epoch, Root: hex.EncodeToString(e.Root), Count: e.Count,
			OwnRoot: hex.EncodeToString(e.Own), SameVector: e.VectorsEqual,
		})
	}
	return peer
}

func (n *Node) apiEpochs() []admin.Epoch {
	var list []admin.Epoch
	for _, r := range n.repair.Closed().Roots {
		list = append(list, admin.Epoch{Epoch: r.Epoch, Root: hex.EncodeToString(r.Root[:]), Count: r.Count, Told: r.Told})
	}
	return list
}

func (n *Node) apiMembers() []admin.Member {
	status := n.replication.Status()
	var list []admin.Member
	for _, m := range n.members() {
		self := m.NodeID == n.config.NodeID
		live := slices.ContainsFunc(status.Peers, func(p replication.PeerStatus) bool { return p.NodeID == m.NodeID && p.Live })
		list = append(list, admin.Member{
			NodeID: m.NodeID, Instance: instanceText(m.Instance), Address: m.Address,
			Version: m.Version.String(), Self: self, Live: self || live,
		})
	}
	return list
}

// instanceText is how people see an instance.
func instanceText(instance uint64) string { return fmt.Sprintf("%016x", instance) }

// escapedKeys returns keys as the client protocol's reports have them.
func escapedKeys(keys [][]byte) []string {
	list := make([]string, 0, len(keys))
	for _, k := range keys {
		list = append(list, escapedKey(k))
	}
	return list
}

func escapedKey(key []byte) string { return string(protocol.AppendEscaped(nil, key)) }
