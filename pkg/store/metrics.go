package store

import "github.com/prometheus/client_golang/prometheus"

// gauge is one metric of a store and where its value comes from.
type gauge struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Stats) int64
}

// collector shows a store's Stats.
type collector struct {
	store  *Store
	gauges []gauge
}

// Register adds the store's metrics to a registry.
func (s *Store) Register(r prometheus.Registerer) error {
	g := func(name, help string, value func(*Stats) int64) gauge {
		return gauge{prometheus.NewDesc("merklekv_store_"+name, help, nil, nil), prometheus.GaugeValue, value}
	}
	ties := g("version_ties_total", "Entries seen with one version and two contents, which means corruption somewhere.",
		func(st *Stats) int64 { return st.Ties })
	excess := g("applied_over_limit_total", "Entries of other nodes that were taken although storage.memory_limit_mb leaves no room for them.",
		func(st *Stats) int64 { return st.Excess })
	ties.kind, excess.kind = prometheus.CounterValue, prometheus.CounterValue
	return r.Register(&collector{store: s, gauges: []gauge{
		g("keys", "Keys that readers see.", func(st *Stats) int64 { return st.Keys }),
		g("tombstones", "Keys whose deletion is remembered.", func(st *Stats) int64 { return st.Tombstones }),
		g("entries", "Entries held: of all facets, tombstones included.", func(st *Stats) int64 { return st.Entries }),
		g("memory_used_bytes", "Bytes of entries and tables, which storage.memory_limit_mb bounds.", func(st *Stats) int64 { return st.Used }),
		g("memory_limit_bytes", "Bytes that clients' writes may fill; 0 is no limit.", func(st *Stats) int64 { return st.Limit }),
		g("memory_mapped_bytes", "Bytes taken from the system for entries and tables, beside the Go heap.", func(st *Stats) int64 { return st.Mapped }),
		g("log_changes", "Recent changes kept for peers that missed them.", func(st *Stats) int64 { return st.LogChanges }),
		g("log_bytes", "Bytes of the entries that the recent changes refer to.", func(st *Stats) int64 { return st.LogBytes }),
		g("quarantine_bytes", "Bytes of superseded entries that the recent changes still refer to.", func(st *Stats) int64 { return st.Quarantine }),
		ties, excess,
	}})
}

// Describe sends the descriptions of all metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range c.gauges {
		ch <- g.desc
	}
}

// Collect sends their present values.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.store.Stats()
	for _, g := range c.gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, float64(g.value(&st)))
	}
}
