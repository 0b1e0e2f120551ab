package diskspace

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register adds the metrics of the volume.
func (w *Watcher) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	gauge := func(name, help string, value func(*State) uint64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "merklekv_disk_" + name, Help: help},
			func() float64 { s := w.State(); return float64(value(&s)) })
	}
	for _, c := range []prometheus.Collector{
		gauge("free_bytes", "Bytes that can be written to the volume of the data directory.", func(s *State) uint64 { return s.Free }),
		gauge("total_bytes", "Bytes that the volume has; 0 where the system does not tell.", func(s *State) uint64 { return s.Total }),
		gauge("low_bytes", "Free bytes below which the volume counts as full.", func(s *State) uint64 { return s.Low }),
		gauge("clear_bytes", "Free bytes above which a full volume is not full any more.", func(s *State) uint64 { return s.Clear }),
		gauge("ballast_bytes", "Bytes in reserve, given back when the disk is nearly full.", func(s *State) uint64 {
			if !s.Reserved {
				return 0
			}
			return s.Ballast
		}),
		gauge("full", "1 while the volume is full: clients' writes are refused, changes of others wait.", func(s *State) uint64 {
			if s.Full {
				return 1
			}
			return 0
		}),
	} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("disk space metrics: %w", err)
		}
	}
	return nil
}
