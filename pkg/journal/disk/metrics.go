package disk

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the journal does.
type metrics struct {
	groups, records, bytes prometheus.Counter
	wait                   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "merklekv", Subsystem: "journal", Name: name, Help: help})
	}
	m := &metrics{
		groups:  counter("groups_total", "Groups of changes written to the journal; each is one sync with fsync = always."),
		records: counter("records_total", "Records written to the journal."),
		bytes:   counter("bytes_total", "Bytes of records written to the journal."),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "merklekv", Subsystem: "journal", Name: "sync_seconds", Help: "How long the disk took for one group.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 4, 9),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.groups, m.records, m.bytes, m.wait} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) watch(*pebble.DB) {}
func (m *metrics) unwatch()         {}
