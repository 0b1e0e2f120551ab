package server

import (
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/internal/poll"
)

func TestClientList(t *testing.T) {
	s := startServer(t, Options{})
	first, second := dial(t, s), dial(t, s)
	first.ask("SET k v", "OK")
	want := regexp.MustCompile(`^id=1 addr=` + regexp.QuoteMeta(first.LocalAddr().String()) +
		` age=\d+ idle=\d+ in=9 out=4 cmd=set state=idle
id=2 addr=` + regexp.QuoteMeta(second.LocalAddr().String()) +
		` age=\d+ idle=\d+ in=\d+ out=\d+ cmd=client state=executing
END$`)
	poll.Until(t, patience, func() bool {
		second.send("CLIENT LIST\r\n")
		got := second.line() + "\n" + second.line() + "\n" + second.line()
		return want.MatchString(got)
	}, "the list to show both connections as they are")
}

func TestInfoAndStats(t *testing.T) {
	s := startServer(t, Options{Info: func() []Section {
		return []Section{{"replication", []Field{{"lag_ms", "3"}}}}
	}})
	c := dial(t, s)
	c.ask("SET k v", "OK")
	report := func(request string) map[string]string {
		c.send(request + "\r\n")
		fields := map[string]string{}
		for line := c.line(); line != "END"; line = c.line() {
			name, value, isField := strings.Cut(line, ":")
			if isField {
				fields[name] = value
			}
		}
		return fields
	}
	info := report("INFO")
	if info["version"] != "1.2.3" || info["keys"] != "1" || info["lag_ms"] != "3" || info["connected_clients"] != "1" {
		t.Errorf("INFO: %v", info)
	}
	if part := report("INFO replication"); len(part) != 1 {
		t.Errorf("INFO replication: %v", part)
	}
	if stats := report("STATS"); stats["commands_set"] != "1" || stats["commands_info"] != "2" || stats["commands_total"] != "3" {
		t.Errorf("STATS: %v", stats)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	s := startServer(t, Options{Registerer: registry})
	c := dial(t, s)
	c.send("SET k v\r\nGET k\r\nGET k\r\nGET\r\n")
	for range 4 {
		c.line()
	}
	c.ask("PING", "PONG") // the batch before is accounted for
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if f.GetHelp() == "" || !strings.HasPrefix(f.GetName(), "merklekv_") {
			t.Errorf("metric %s, help %q", f.GetName(), f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"merklekv_commands_total get":          3,
		"merklekv_commands_total set":          1,
		"merklekv_command_errors_total get":    1,
		"merklekv_connections client":          1,
		"merklekv_connections peer":            0,
		"merklekv_connections_accepted_total":  1,
		"merklekv_client_received_bytes_total": 34,
		"merklekv_connections_timed_out_total": 0,
		"merklekv_connections_refused_total":   0,
	} {
		if values[name] != want {
			t.Errorf("%s is %v, want %v", name, values[name], want)
		}
	}
}
