package server

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/protocol"
)

// metrics are the server's counters. Connections add to them once for an input
// buffer; reading them costs the connections nothing.
type metrics struct {
	requests [protocol.NumCommands]atomic.Uint64
	errors   [protocol.NumCommands]atomic.Uint64
	latency  histogram
	accepted atomic.Uint64
	refused  atomic.Uint64
	timedOut atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64

	connected func() (clients, peers int)
}

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(connected func() (clients, peers int)) *metrics {
	return &metrics{connected: connected}
}

// Stats are a server's counters since its start.
type Stats struct {
	Commands uint64 // requests answered, errors included
	Errors   uint64 // requests answered with an error
	Accepted uint64 // connections that were served
	Refused  uint64 // connections refused for their number
	TimedOut uint64 // connections closed by a timeout
	BytesIn  uint64
	BytesOut uint64
	Clients  int // connected now
	Peers    int // connected now
}

// Stats returns the counters of the server.
func (s *Server) Stats() Stats {
	m := s.metrics
	st := Stats{
		Accepted: m.accepted.Load(),
		Refused:  m.refused.Load(),
		TimedOut: m.timedOut.Load(),
		BytesIn:  m.bytesIn.Load(),
		BytesOut: m.bytesOut.Load(),
	}
	for id := range m.requests {
		st.Commands += m.requests[id].Load()
		st.Errors += m.errors[id].Load()
	}
	st.Clients, st.Peers = s.counts()
	return st
}

// bounds are the upper bounds of the latency histogram's buckets.
var bounds = [...]time.Duration{
	5 * time.Microsecond, 10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// histogram counts durations by bucket.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

// observe counts n requests that took d each.
func (h *histogram) observe(d time.Duration, n uint64) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.sum.Add(int64(d) * int64(n))
}

var (
	commandsDesc = prometheus.NewDesc("merklekv_commands_total",
		"Client requests answered, by command.", []string{"command"}, nil)
	errorsDesc = prometheus.NewDesc("merklekv_command_errors_total",
		"Client requests answered with an error, by command.", []string{"command"}, nil)
	latencyDesc = prometheus.NewDesc("merklekv_command_duration_seconds",
		"Time from reading a request to having handed its reply to the network; requests of one pipeline share theirs.", nil, nil)
	connectionsDesc = prometheus.NewDesc("merklekv_connections",
		"Open connections on the client port, by kind (client or peer).", []string{"kind"}, nil)
	acceptedDesc = prometheus.NewDesc("merklekv_connections_accepted_total",
		"Connections accepted on the client port.", nil, nil)
	refusedDesc = prometheus.NewDesc("merklekv_connections_refused_total",
		"Connections refused because there were too many.", nil, nil)
	timedOutDesc = prometheus.NewDesc("merklekv_connections_timed_out_total",
		"Connections closed by a timeout.", nil, nil)
	bytesInDesc = prometheus.NewDesc("merklekv_client_received_bytes_total",
		"Bytes of requests received on the client port, without those of peers.", nil, nil)
	bytesOutDesc = prometheus.NewDesc("merklekv_client_sent_bytes_total",
		"Bytes of replies sent on the client port, without those of peers.", nil, nil)
)

// Describe sends what Collect sends values for.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		commandsDesc, errorsDesc, latencyDesc, connectionsDesc, acceptedDesc,
		refusedDesc, timedOutDesc, bytesInDesc, bytesOutDesc,
	} {
		ch <- d
	}
}

// Collect sends the present values.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v.Load()), labels...)
	}
	for id := range protocol.NumCommands {
		counter(commandsDesc, &m.requests[id], id.String())
		counter(errorsDesc, &m.errors[id], id.String())
	}
	counter(acceptedDesc, &m.accepted)
	counter(refusedDesc, &m.refused)
	counter(timedOutDesc, &m.timedOut)
	counter(bytesInDesc, &m.bytesIn)
	counter(bytesOutDesc, &m.bytesOut)
	clients, peers := m.connected()
	ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(clients), "client")
	ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(peers), "peer")
	ch <- m.latency.metric()
}

// metric returns the histogram as Prometheus counts it: each bucket includes
// the smaller ones.
func (h *histogram) metric() prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	count := uint64(0)
	for i, bound := range bounds {
		count += h.buckets[i].Load()
		buckets[bound.Seconds()] = count
	}
	count += h.buckets[len(bounds)].Load()
	sum := time.Duration(h.sum.Load()).Seconds()
	return prometheus.MustNewConstHistogram(latencyDesc, count, sum, buckets)
}
