package node

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"merklekv/pkg/server"
)

// info returns the node's own sections of INFO.
func (n *Node) info() []server.Section {
	return []server.Section{n.nodeInfo(), n.memoryInfo(), n.persistenceInfo(), n.replicationInfo(), n.repairInfo()}
}

func (n *Node) nodeInfo() server.Section {
	return server.Section{Name: "node", Fields: []server.Field{
		{Name: "node_id", Value: n.config.NodeID},
		{Name: "instance", Value: fmt.Sprintf("%016x", n.store.Instance())},
		{Name: "advertise_address", Value: n.advertised()},
		{Name: "description", Value: n.config.Description},
		{Name: "uptime_seconds", Value: strconv.FormatInt(int64(time.Since(n.started)/time.Second), 10)},
		{Name: "go_version", Value: runtime.Version()},
	}}
}

func (n *Node) memoryInfo() server.Section {
	st := n.store.Stats()
	count := func(name string, v int64) server.Field {
		return server.Field{Name: name, Value: strconv.FormatInt(v, 10)}
	}
	return server.Section{Name: "memory", Fields: []server.Field{
		count("keys", st.Keys), count("tombstones", st.Tombstones), count("entries", st.Entries),
		count("used_bytes", st.Used), count("limit_bytes", st.Limit), count("mapped_bytes", st.Mapped),
		count("log_changes", st.LogChanges), count("log_bytes", st.LogBytes),
	}}
}

func (n *Node) persistenceInfo() server.Section {
	var fields []server.Field
	add := func(name string, format string, args ...any) {
		fields = append(fields, server.Field{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	add("enabled", "%t", n.journal != nil)
	if n.journal == nil {
		return server.Section{Name: "persistence", Fields: fields}
	}
	c := n.config.Storage
	add("data_dir", "%s", c.DataDir)
	add("volume", "%016x", n.volume.ID())
	add("fsync", "%s", c.Fsync)
	add("disk_full", "%t", n.room.isFull())
	if n.backups != nil {
		if s := n.backups.Status(); s.Last != nil {
			add("last_backup", "%s", s.Last.Name())
			add("last_backup_age_seconds", "%d", int64(s.Age/time.Second))
		}
	}
	return server.Section{Name: "persistence", Fields: fields}
}

func (n *Node) replicationInfo() server.Section {
	status := n.replication.Status()
	field := func(name string, format string, args ...any) server.Field {
		return server.Field{Name: name, Value: fmt.Sprintf(format, args...)}
	}
	fields := []server.Field{
		field("ready", "%t", status.Ready), field("gaps", "%d", status.Gaps), field("pulling", "%d", status.Pulling),
	}
	for i, b := range status.Brokers {
		state := "up"
		if !b.Up {
			state = "down: " + b.Reason
		}
		fields = append(fields, field(fmt.Sprintf("broker%d", i), "%s %s", b.Address, state))
	}
	for i, p := range status.Peers {
		fields = append(fields, field(fmt.Sprintf("peer%d", i),
			"node_id=%s instance=%016x address=%s live=%t heard_ms=%d mqtt=%t lag_entries=%d lag_ms=%d",
			p.NodeID, p.Instance, p.Address, p.Live, p.Heard.Milliseconds(), p.ByMQTT, p.LagEntries, p.LagMillis))
	}
	return server.Section{Name: "replication", Fields: fields}
}

func (n *Node) repairInfo() server.Section {
	var fields []server.Field
	add := func(name string, format string, args ...any) {
		fields = append(fields, server.Field{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	closed := n.repair.Closed()
	add("enabled", "%t", n.repair.Limits().Enabled)
	if len(closed.Roots) > 0 {
		newest := &closed.Roots[0]
		add("epoch", "%d", newest.Epoch)
		add("root", "%x", newest.Root)
		add("entries", "%d", newest.Count)
	}
	last := n.repair.Records(1)
	sessions := uint64(0)
	if len(last) > 0 {
		sessions = last[0].Number
	}
	add("sessions", "%d", sessions)
	add("running", "%d", n.repair.Running())
	stuck := n.repair.Stuck()
	add("stuck", "%d", len(stuck))
	for i, s := range stuck {
		add(fmt.Sprintf("stuck%d", i), "node_id=%s sessions=%d keys=%s",
			n.nodeIDOf(s.Instance), s.Sessions, strings.Join(escapedKeys(s.Keys), ","))
	}
	return server.Section{Name: "repair", Fields: fields}
}
