package replication

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"merklekv/pkg/internal/mqttlink"
)

// FollowOptions say which cluster's messages to follow, and where.
type FollowOptions struct {
	Broker             string // as mqttlink.Options has it
	Username, Password string
	ClientID           string // of nobody else at the broker
	Prefix             string // begins every topic of the cluster
	Secret             []byte // of the cluster: what is not signed with it is dropped; empty takes all
	Heads              bool   // heads too
	// OnState is told whether the broker is connected, and why not. It may be nil
	// and must not block.
	OnState func(up bool, why error)
	// OnDropped is told of every message that is not passed on: its reason is one of
	// the codec's errors. It may be nil.
	OnDropped func(topic string, why error)
	Logger    *slog.Logger // nil: no log
}

// Heard is one message of a node. One of its pointers is set.
type Heard struct {
	Batch    *Batch
	Head     *Head
	Presence *Presence
}

// Follow passes on what the nodes of a cluster tell each other by MQTT, until ctx
// ends or fn returns an error, which it returns. It takes part in nothing, and
// dials again for as long as the broker is away: what comes meanwhile is missed.
// fn is called by one goroutine.
func Follow(ctx context.Context, o FollowOptions, fn func(*Heard) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	codec, topic := NewCodec(o.Prefix, o.Secret), func(s string) string { return o.Prefix + "/" + s }
	m := mqttlink.Options{
		BrokerURL: o.Broker, ClientID: o.ClientID, Username: o.Username, Password: o.Password,
		KeepAlive: followKeepAlive, CleanSession: true, MaxPacket: MaxMessage,
		Subscriptions: []string{topic("updates"), topic("nodes/+")}, Logger: o.Logger,
	}
	if o.Heads {
		m.Subscriptions = append(m.Subscriptions, topic("heads"))
	}
	if o.OnState != nil {
		m.OnState = func(s mqttlink.State) { o.OnState(s.Up, s.Reason) }
	}
	var failed atomic.Pointer[error]
	m.Handler = func(topic string, payload []byte) {
		if failed.Load() != nil {
			return
		}
		h, err := decodeHeard(codec, strings.TrimPrefix(topic, o.Prefix+"/"), payload)
		switch {
		case err != nil && o.OnDropped != nil:
			o.OnDropped(topic, err)
		case h != nil:
			if err := fn(h); err != nil {
				failed.Store(&err)
				cancel(err)
			}
		}
	}
	link, err := mqttlink.New(m)
	if err != nil {
		return err
	}
	if err := link.Run(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

const followKeepAlive = 30 * time.Second

// decodeHeard reads a message; nil is for one that tells a follower nothing.
func decodeHeard(codec *Codec, topic string, payload []byte) (*Heard, error) {
	_, isNode := strings.CutPrefix(topic, "nodes/")
	if isNode && len(payload) == 0 {
		return nil, nil // a retained message that somebody removed
	}
	m, err := codec.Open(payload)
	if err != nil {
		return nil, err
	}
	h := new(Heard)
	switch {
	case m.Kind == KindBatch && topic == "updates":
		h.Batch, err = DecodeBatch(m)
	case m.Kind == KindHead && topic == "heads":
		h.Head, err = DecodeHead(m.Body)
	case m.Kind == KindPresence && isNode:
		h.Presence, err = DecodePresence(m.Body)
	case m.Kind == KindAsk:
		return nil, nil
	default:
		err = fmt.Errorf("%w: kind %d on this topic", ErrMalformed, m.Kind)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}
