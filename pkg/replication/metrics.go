package replication

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of a replicator. Gauges come from its status.
type metrics struct {
	published, batchBytes                       prometheus.Counter
	applied, lost, known, duplicate, deferred   prometheus.Counter
	gaps, pulledEntries, fullCopies, servedPull prometheus.Counter
	headsIn, headsOut, overflow, tooLarge       prometheus.Counter
	headsRelayed, adopted, floors               prometheus.Counter
	pulls, dropped                              *prometheus.CounterVec
}

const metricPrefix = "merklekv_replication_"

// newMetrics returns the metrics, registered if there is a registerer.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + name, Help: help})
		all = append(all, c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, []string{label})
		all = append(all, c)
		return c
	}
	m := &metrics{
		published:     counter("published_total", "Own changes handed to a broker, once for each broker."),
		batchBytes:    counter("batch_bytes_total", "Bytes of batches handed to brokers, as sent."),
		applied:       counter("applied_total", "Changes of other nodes that won the merge here."),
		lost:          counter("lost_total", "Changes of other nodes that were superseded before they arrived."),
		known:         counter("known_total", "Changes of other nodes whose entry was here already by another way."),
		duplicate:     counter("duplicate_total", "Changes that arrived more than once and were skipped."),
		deferred:      counter("deferred_total", "Changes put off because they are stamped too far in the future."),
		gaps:          counter("gaps_total", "Times that changes of an origin were found to be missing."),
		pulledEntries: counter("pulled_entries_total", "Changes received by pulls."),
		fullCopies:    counter("full_copies_total", "Pulls answered with all that the peer holds."),
		servedPull:    counter("served_pulls_total", "Pulls of peers that this node answered."),
		headsIn:       counter("heads_received_total", "Heads of other nodes received, by MQTT or TCP."),
		headsOut:      counter("heads_sent_total", "Heads made for publishing or for a peer."),
		headsRelayed:  counter("heads_relayed_total", "Heads of other nodes that came by way of a third node."),
		adopted:       counter("adoptions_total", "Times that equal roots, or a repair session, showed that changes counted as missing are not."),
		floors:        counter("floor_pulls_total", "Pulls that the peer left to a repair session, because its log no longer reaches back."),
		overflow:      counter("span_overflow_total", "Changes not recorded because too many gaps were open or too many origins known."),
		tooLarge:      counter("unsent_messages_total", "Own messages not sent because they were above the size limit."),
		pulls:         vec("pulls_total", "Pulls by result: ok, failed or busy.", "result"),
		dropped:       vec("dropped_messages_total", "Messages dropped, by reason.", "reason"),
	}
	for _, r := range []string{"ok", "failed", "busy"} {
		m.pulls.WithLabelValues(r)
	}
	for _, r := range []string{"unsigned", "forged", "version", "malformed", "oversize", "peer"} {
		m.dropped.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	return m, register(reg, all...)
}

func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}

// reasonOf returns the label under which a dropped message is counted.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, ErrUnsigned):
		return "unsigned"
	case errors.Is(err, ErrForged):
		return "forged"
	case errors.Is(err, ErrVersion):
		return "version"
	case errors.Is(err, ErrOversize):
		return "oversize"
	}
	return "malformed"
}

// gauges collects what Status tells.
type gauges struct {
	status func() Status

	lagEntries, lagSeconds, mqttUp, peers, ready, deferred, queueFull, oversize *prometheus.Desc
}

func newGauges(status func() Status) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(metricPrefix+name, help, labels, nil)
	}
	return &gauges{
		status:     status,
		lagEntries: desc("lag_entries", "Changes of an origin that are known to exist and missing here.", "node_id"),
		lagSeconds: desc("lag_seconds", "Age difference between the newest change of an origin and the newest one applied here.", "node_id"),
		mqttUp:     desc("mqtt_up", "Whether the broker is connected (1) or not (0).", "broker"),
		peers:      desc("peers", "Peers heard from within the last five seconds."),
		ready:      desc("ready", "Whether the start is over (1) or not (0): the first pull is done, or nobody was there to pull from."),
		deferred:   desc("deferred", "Origins that wait for a change stamped too far in the future."),
		queueFull:  desc("queue_full_dropped_total", "Messages of a broker dropped because they came faster than they were applied.", "broker"),
		oversize:   desc("oversize_dropped_total", "Messages of a broker dropped because they were above the size limit.", "broker"),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.lagEntries, g.lagSeconds, g.mqttUp, g.peers, g.ready, g.deferred, g.queueFull, g.oversize} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	s := g.status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	live := 0
	for _, p := range s.Peers {
		if !p.Live {
			continue
		}
		live++
		gauge(g.lagEntries, float64(p.LagEntries), strings.Join([]string{p.NodeID, p.instanceTag()}, "/"))
		gauge(g.lagSeconds, float64(p.LagMillis)/1000, strings.Join([]string{p.NodeID, p.instanceTag()}, "/"))
	}
	for _, b := range s.Brokers {
		gauge(g.mqttUp, oneIf(b.Up), b.Address)
		ch <- prometheus.MustNewConstMetric(g.queueFull, prometheus.CounterValue, float64(b.Dropped), b.Address)
		ch <- prometheus.MustNewConstMetric(g.oversize, prometheus.CounterValue, float64(b.Oversize), b.Address)
	}
	gauge(g.peers, float64(live))
	gauge(g.ready, oneIf(s.Ready))
	gauge(g.deferred, float64(len(s.Deferred)))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
