package disk

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the journal does and show what the engine below it does.
type metrics struct {
	groups, records, bytes, damage, stalls, stalled prometheus.Counter
	wait                                            prometheus.Histogram

	registerer prometheus.Registerer // nil: not exposed
	registered []prometheus.Collector
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: r,
		groups:     counter("groups_total", "Groups of changes written to the journal; each is one sync with fsync = always."),
		records:    counter("records_total", "Entries written to the journal."),
		bytes:      counter("bytes_total", "Bytes of groups written to the journal."),
		damage:     counter("damage_total", "How often a block of the journal was read that is not what was written. The node has to be started anew, which saves what can be read."),
		stalls:     counter("write_stalls_total", "How often writes had to wait for the engine's background work."),
		stalled:    counter("write_stall_seconds_total", "How long writes had to wait for the engine's background work."),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "merklekv", Subsystem: "journal", Name: "sync_seconds", Help: "How long the disk took for one group.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 4, 9),
		}),
	}
	for _, c := range []prometheus.Collector{m.groups, m.records, m.bytes, m.damage, m.stalls, m.stalled, m.wait} {
		if err := m.register(c); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "merklekv", Subsystem: "journal", Name: name, Help: help})
}

func (m *metrics) register(c prometheus.Collector) error {
	if m.registerer == nil {
		return nil
	}
	if err := m.registerer.Register(c); err != nil {
		return err
	}
	m.registered = append(m.registered, c)
	return nil
}

// watch exposes what the engine says of itself.
func (m *metrics) watch(j *Journal) error { return m.register(&engine{journal: j}) }

// close takes all of it away, so that a journal can be opened again.
func (m *metrics) close() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}

// listen counts the times in which the engine lets writes wait.
func (m *metrics) listen(l *pebble.EventListener) {
	var mu sync.Mutex
	var begun time.Time // zero: writes are not waiting
	l.WriteStallBegin = func(pebble.WriteStallBeginInfo) {
		mu.Lock()
		defer mu.Unlock()
		m.stalls.Inc()
		begun = time.Now()
	}
	l.WriteStallEnd = func() {
		mu.Lock()
		defer mu.Unlock()
		if !begun.IsZero() {
			m.stalled.Add(time.Since(begun).Seconds())
			begun = time.Time{}
		}
	}
}

// engine shows gauges of the engine.
type engine struct {
	journal *Journal
	asking  sync.Mutex // one asks at a time: the engine of a failed journal may never answer
}

var engineGauges = []struct {
	desc *prometheus.Desc
	of   func(*pebble.Metrics) float64
}{
	{gauge("disk_bytes", "Bytes of all the journal's files, those that are about to be deleted included."),
		func(m *pebble.Metrics) float64 { return float64(m.DiskSpaceUsage()) }},
	{gauge("table_bytes", "Bytes of the tables that hold entries, overwritten ones that were not compacted away yet included."),
		func(m *pebble.Metrics) float64 { return float64(m.Table.Local.LiveSize) }},
	{gauge("log_bytes", "Bytes in the write-ahead log that are in no table yet."),
		func(m *pebble.Metrics) float64 { return float64(m.WAL.Size) }},
	{gauge("compaction_debt_bytes", "Estimate of the bytes that compaction has to rewrite until it is at rest."),
		func(m *pebble.Metrics) float64 { return float64(m.Compact.EstimatedDebt) }},
	{gauge("compactions_running", "Compactions in progress."),
		func(m *pebble.Metrics) float64 { return float64(m.Compact.NumInProgress) }},
}

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("merklekv", "journal", name), help, nil, nil)
}

// Describe is part of prometheus.Collector.
func (e *engine) Describe(to chan<- *prometheus.Desc) {
	for i := range engineGauges {
		to <- engineGauges[i].desc
	}
}

// Collect is part of prometheus.Collector. It collects nothing of a journal that
// has failed.
func (e *engine) Collect(to chan<- prometheus.Metric) {
	if !e.asking.TryLock() {
		return
	}
	defer e.asking.Unlock()
	if e.journal.failed() != nil {
		return
	}
	var seen *pebble.Metrics
	if e.journal.unlessFailed(func() error { m := e.journal.db.Metrics(); seen = m; return nil }) != nil {
		return
	}
	for i := range engineGauges {
		to <- prometheus.MustNewConstMetric(engineGauges[i].desc, prometheus.GaugeValue, engineGauges[i].of(seen))
	}
}
