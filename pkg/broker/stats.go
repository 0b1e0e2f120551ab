package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are what the broker did since New, and what it holds now.
type Stats struct {
	Clients       int64 // connected now
	Sessions      int64 // kept now, those of absent clients included
	Subscriptions int64 // held now
	Retained      int64 // retained messages held now, those of $SYS included
	MessagesIn    int64
	MessagesOut   int64
	Dropped       int64 // messages for clients that did not keep up
	BytesIn       int64
	BytesOut      int64
	Refused       int64 // connections refused: credentials or limits
	Forbidden     int64 // topics refused
}

// Stats returns the counts so far.
func (b *Broker) Stats() Stats {
	i := b.server.Info.Clone()
	return Stats{
		Clients:       i.ClientsConnected,
		Sessions:      int64(len(b.server.Clients.GetAll())),
		Subscriptions: i.Subscriptions,
		Retained:      int64(b.server.Topics.Retained.Len()),
		MessagesIn:    i.MessagesReceived,
		MessagesOut:   i.MessagesSent,
		Dropped:       int64(b.guard.dropped.Load()) + i.InflightDropped,
		BytesIn:       i.BytesReceived,
		BytesOut:      i.BytesSent,
		Refused:       int64(b.guard.refused.Load() + b.listener.refused.Load()),
		Forbidden:     int64(b.guard.forbidden.Load()),
	}
}

// Register adds the broker's metrics to a registry.
func (b *Broker) Register(reg prometheus.Registerer) error {
	gauge := func(name, help string, value func(Stats) int64) error {
		return reg.Register(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "merklekv", Subsystem: "broker", Name: name, Help: help},
			func() float64 { return float64(value(b.Stats())) }))
	}
	counter := func(name, help string, value func(Stats) int64) error {
		return reg.Register(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Namespace: "merklekv", Subsystem: "broker", Name: name, Help: help},
			func() float64 { return float64(value(b.Stats())) }))
	}
	return errors.Join(
		gauge("clients", "Clients that are connected to the in-process broker.",
			func(s Stats) int64 { return s.Clients }),
		gauge("sessions", "Sessions that the broker keeps, those of absent clients included.",
			func(s Stats) int64 { return s.Sessions }),
		gauge("subscriptions", "Subscriptions that the broker holds.",
			func(s Stats) int64 { return s.Subscriptions }),
		gauge("retained_messages", "Retained messages that the broker holds, its own status topics included.",
			func(s Stats) int64 { return s.Retained }),
		counter("messages_received_total", "Messages that clients published.",
			func(s Stats) int64 { return s.MessagesIn }),
		counter("messages_sent_total", "Messages that were sent to subscribers.",
			func(s Stats) int64 { return s.MessagesOut }),
		counter("messages_dropped_total", "Messages that were dropped because a subscriber did not keep up.",
			func(s Stats) int64 { return s.Dropped }),
		counter("received_bytes_total", "Bytes that clients sent.",
			func(s Stats) int64 { return s.BytesIn }),
		counter("sent_bytes_total", "Bytes that were sent to clients.",
			func(s Stats) int64 { return s.BytesOut }),
		counter("connections_refused_total", "Connections that were refused: wrong user or password, or too many clients.",
			func(s Stats) int64 { return s.Refused }),
		counter("topics_refused_total", "Publications, subscriptions and wills that were refused because of their topic.",
			func(s Stats) int64 { return s.Forbidden }),
	)
}
