package backup

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what operators see of a Runner.
type metrics struct {
	collectors []prometheus.Collector
	failures   prometheus.Counter
	duration   prometheus.Gauge
}

func newMetrics(r *Runner) *metrics {
	m := &metrics{
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "merklekv_backup_failures_total", Help: "Backups that could not be made."}),
		duration: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "merklekv_backup_duration_seconds", Help: "Time that the last good backup of this start took; 0 before the first."}),
	}
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(r.Status()) })
	}
	m.collectors = []prometheus.Collector{
		m.failures, m.duration,
		gauge("merklekv_backup_last_success_timestamp_seconds", "When the last good backup was made, in seconds since 1970; 0 if there is none.",
			func(s Status) float64 {
				if s.Last == nil {
					return 0
				}
				return float64(s.Last.Created.UnixMilli()) / 1000
			}),
		gauge("merklekv_backup_age_seconds", "Age of the last good backup; without one, time since the start.",
			func(s Status) float64 { return s.Age.Seconds() }),
		gauge("merklekv_backup_size_bytes", "Size of the last good backup; 0 if there is none.",
			func(s Status) float64 {
				if s.Last == nil {
					return 0
				}
				return float64(s.Last.Bytes)
			}),
		gauge("merklekv_backup_entries", "Entries in the last good backup; 0 if there is none.",
			func(s Status) float64 {
				if s.Last == nil {
					return 0
				}
				return float64(s.Last.Entries)
			}),
		gauge("merklekv_backup_running", "Whether a backup is being made (1) or not (0).",
			func(s Status) float64 {
				if s.Running {
					return 1
				}
				return 0
			}),
	}
	return m
}

// register exposes the metrics; a nil registerer exposes none.
func (m *metrics) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	var failed []error
	for _, c := range m.collectors {
		if err := to.Register(c); err != nil {
			failed = append(failed, fmt.Errorf("register metrics: %w", err))
		}
	}
	return errors.Join(failed...)
}
