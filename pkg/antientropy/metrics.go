package antientropy

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what operators see of repair.
type metrics struct {
	sessions *prometheus.CounterVec // by outcome
	bytes    *prometheus.CounterVec // by direction
	entries  *prometheus.CounterVec // by what became of them
	compared prometheus.Counter
	trips    prometheus.Counter
	seconds  prometheus.Counter
	running  prometheus.Gauge
	stuck    prometheus.Gauge
	stride   prometheus.Gauge
	epoch    prometheus.Gauge
	count    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		sessions: vector("merklekv_repair_sessions_total", "Repair sessions that ended, by outcome: equal, repaired, unequal or failed.", "outcome"),
		bytes:    vector("merklekv_repair_bytes_total", "Bytes of repair sessions, by direction.", "direction"),
		entries:  vector("merklekv_repair_entries_total", "Entries in repair sessions: pulled (won here), pushed (won there), moot (the same on both sides by then), deferred.", "kind"),
		compared: counter("merklekv_repair_keys_compared_total", "Keys that repair sessions compared."),
		trips:    counter("merklekv_repair_round_trips_total", "Round trips of repair sessions."),
		seconds:  counter("merklekv_repair_seconds_total", "Time that repair sessions took."),
		running:  gauge("merklekv_repair_running", "Repair sessions that run now."),
		stuck:    gauge("merklekv_repair_stuck_peers", "Peers with which sessions in a row moved nothing and ended unequal."),
		stride:   gauge("merklekv_index_stride", "One of so many epochs is closed; above 1 writes come faster than they can be hashed."),
		epoch:    gauge("merklekv_index_epoch", "The newest closed epoch, in seconds since 1970."),
		count:    gauge("merklekv_index_entries", "Entries in the set of the newest closed epoch."),
	}
	for _, outcome := range []string{"equal", "repaired", "unequal", "failed"} {
		m.sessions.WithLabelValues(outcome)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.sessions, m.bytes, m.entries, m.compared, m.trips, m.seconds, m.running, m.stuck, m.stride, m.epoch, m.count,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) session(rec *Record) {
	r := &rec.Result
	m.sessions.WithLabelValues(rec.Outcome()).Inc()
	m.bytes.WithLabelValues("in").Add(float64(r.BytesIn))
	m.bytes.WithLabelValues("out").Add(float64(r.BytesOut))
	m.entries.WithLabelValues("pulled").Add(float64(r.Pulled))
	m.entries.WithLabelValues("pushed").Add(float64(r.Pushed))
	m.entries.WithLabelValues("moot").Add(float64(r.Moot))
	m.entries.WithLabelValues("deferred").Add(float64(r.Deferred))
	m.compared.Add(float64(r.Keys))
	m.trips.Add(float64(r.RoundTrips))
	m.seconds.Add(rec.Took.Seconds())
}

func (m *metrics) closed(c *Closed) {
	if len(c.Roots) > 0 {
		m.epoch.Set(float64(c.Roots[0].Epoch))
		m.count.Set(float64(c.Roots[0].Count))
	}
}
