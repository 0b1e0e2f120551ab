package mqttlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
)

func TestOrderAndQoS(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean session ", clean), func(t *testing.T) {
			b := startBroker(t, "127.0.0.1:0", &rights{})
			h := run(t, Options{BrokerURL: b.addr, CleanSession: clean, Subscriptions: []string{"kv/#"}})
			h.waitUp(t)
			const n = 500
			for i := range n {
				if err := h.Publish(t.Context(), "kv/updates", false, fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
			poll.Until(t, patience, func() bool { return len(h.received()) == n }, "all messages")
			for i, m := range h.received() {
				if m != fmt.Sprintf("kv/updates=%d", i) {
					t.Fatalf("message %d is %s", i, m)
				}
			}
			if s := h.Stats(); s.Published != n || s.Received != n || s.Dropped != 0 {
				t.Errorf("stats %+v", s)
			}
			cl, ok := b.Clients.Get("kv/n1-sub")
			if !ok {
				t.Fatal("no client kv/n1-sub")
			}
			if sub, _ := cl.State.Subscriptions.Get("kv/#"); (sub.Qos == 0) != clean {
				t.Errorf("subscription at QoS %d", sub.Qos)
			}
		})
	}
}

func TestReconnectRestoresEverything(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	p := startProxy(t, b.addr)
	h := run(t, Options{
		BrokerURL: p.addr(), Subscriptions: []string{"kv/updates", "kv/nodes/+"}, CleanSession: true,
		OnConnect: func() []Message {
			return []Message{{Topic: "kv/nodes/n1", Payload: []byte("here"), Retained: true}}
		},
	})
	for i := range 3 {
		h.waitConnects(t, uint64(i+1))
		message := fmt.Sprint("after ", i)
		if err := h.Publish(t.Context(), "kv/updates", false, []byte(message)); err != nil {
			t.Fatal(err)
		}
		poll.Until(t, patience, func() bool { return h.has("kv/updates=" + message) }, message)
		p.cut()
	}
	h.waitConnects(t, 4)
	poll.Until(t, patience, func() bool {
		m, ok := b.Topics.Retained.Get("kv/nodes/n1")
		return ok && string(m.Payload) == "here"
	}, "presence")
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, s := range h.states[1:] {
		if s.Up == h.states[i].Up {
			t.Errorf("states %d and %d are the same", i, i+1)
		}
		if !s.Up && s.Reason == nil {
			t.Error("down without a reason")
		}
	}
}

func TestBrokerStartsLateAndRestarts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	h := run(t, Options{
		BrokerURL: addr, Subscriptions: []string{"kv/#"},
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	poll.Until(t, patience, func() bool { return h.Stats().Failures >= 3 }, "three failures")
	if err := h.Publish(t.Context(), "kv/updates", false, nil); !errors.Is(err, ErrDown) {
		t.Errorf("Publish while down: %v", err)
	}
	if n := log.count("broker is not connected"); n != 1 {
		t.Errorf("%d records about one outage", n)
	}
	for i := range 2 {
		b := startBroker(t, addr, &rights{})
		h.waitConnects(t, uint64(i+1))
		if err := h.Publish(t.Context(), "kv/updates", false, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		poll.Until(t, patience, func() bool { return h.has(fmt.Sprint("kv/updates=", i)) }, "message ", i)
		b.stop()
		poll.Until(t, patience, func() bool { return !h.Up() }, "link is down")
	}
}

func TestRefusals(t *testing.T) {
	t.Run("password", func(t *testing.T) {
		b := startBroker(t, "127.0.0.1:0", &rights{password: "right"})
		h := run(t, Options{BrokerURL: b.addr, Username: "ann", Password: "wrong"})
		h.waitReason(t, ErrCredentials)
		if text := h.Stats().LastError.Error(); !strings.Contains(text, `"ann"`) || strings.Contains(text, "wrong\"") {
			t.Errorf("message: %s", text)
		}
	})
	t.Run("right password", func(t *testing.T) {
		b := startBroker(t, "127.0.0.1:0", &rights{password: "right"})
		run(t, Options{BrokerURL: b.addr, Username: "ann", Password: "right"}).waitUp(t)
	})
	t.Run("subscription", func(t *testing.T) {
		b := startBroker(t, "127.0.0.1:0", &rights{filter: "secret/#"})
		h := run(t, Options{BrokerURL: b.addr, Subscriptions: []string{"kv/#", "secret/#"}})
		h.waitReason(t, ErrSubscription)
		if text := h.Stats().LastError.Error(); !strings.Contains(text, "secret/#") {
			t.Errorf("message: %s", text)
		}
	})
	t.Run("code that MQTT 3.1.1 does not know", func(t *testing.T) {
		addr := rawBroker(t, func(c net.Conn) { _, _ = c.Write([]byte{0x20, 2, 0, 0x97}) })
		h := run(t, Options{BrokerURL: addr})
		poll.Until(t, patience, func() bool {
			err := h.Stats().LastError
			return err != nil && strings.Contains(err.Error(), "0x97")
		}, "the code in the reason")
		if h.Up() || h.Stats().Connects != 0 {
			t.Error("up although refused")
		}
	})
	t.Run("broker that says nothing", func(t *testing.T) {
		addr := rawBroker(t, func(net.Conn) {})
		h := run(t, Options{BrokerURL: addr, ConnectTimeout: 50 * time.Millisecond})
		poll.Until(t, patience, func() bool { return h.Stats().Failures >= 2 }, "two failures")
	})
	t.Run("SUBACK with too many codes", func(t *testing.T) {
		addr := rawBroker(t, func(c net.Conn) { _, _ = c.Write([]byte{0x20, 2, 0, 0, 0x90, 5, 0, 1, 0, 0, 0}) })
		h := run(t, Options{BrokerURL: addr, Subscriptions: []string{"kv/#"}})
		h.waitReason(t, errMalformed)
	})
}

func TestSilenceIsNoticed(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	p := startProxy(t, b.addr)
	h := run(t, Options{
		BrokerURL: p.addr(), CleanSession: true, Subscriptions: []string{"kv/heads"},
		Silence: 200 * time.Millisecond, ConnectTimeout: time.Second,
	})
	h.waitUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heads := make(chan struct{})
	go func() {
		defer close(heads)
		for ctx.Err() == nil {
			_ = h.Publish(ctx, "kv/heads", false, []byte("head")) // fails while down
			sleep(ctx, 20*time.Millisecond)
		}
	}()
	p.stall()
	h.waitReason(t, ErrSilent)
	p.resume()
	h.waitConnects(t, 2)
	cancel()
	<-heads
}

func TestMissingAckIsNoticed(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	p := startProxy(t, b.addr)
	h := run(t, Options{BrokerURL: p.addr(), AckTimeout: 100 * time.Millisecond, ConnectTimeout: time.Second})
	h.waitUp(t)
	p.stall()
	if err := h.Publish(t.Context(), "kv/updates", false, []byte("x")); !errors.Is(err, ErrDown) {
		t.Errorf("Publish without answer: %v", err)
	}
	h.waitReason(t, ErrNoAck)
	p.resume()
	h.waitConnects(t, 2)
}

func TestWindowOutlivesImpatientPublishers(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	p := startProxy(t, b.addr)
	h := run(t, Options{BrokerURL: p.addr(), Window: 2, AckTimeout: time.Hour})
	h.waitUp(t)
	p.stall()
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := h.Publish(ctx, "kv/updates", false, []byte("x"))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("publish %d: %v", i, err)
		}
	}
	h.Link.mu.Lock()
	s := h.Link.current
	h.Link.mu.Unlock()
	if got := len(s.window); got != 2 {
		t.Errorf("%d places are taken, want 2: the packet ids are still in use", got)
	}
	p.resume()
	poll.Until(t, patience, func() bool { return len(s.window) == 0 }, "the window is free again")
	if err := h.Publish(t.Context(), "kv/updates", false, []byte("x")); err != nil {
		t.Error(err)
	}
}

func TestOversizeMessageIsSkipped(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean session ", clean), func(t *testing.T) {
			b := startBroker(t, "127.0.0.1:0", &rights{})
			h := run(t, Options{BrokerURL: b.addr, CleanSession: clean, Subscriptions: []string{"kv/#"}, MaxPacket: 1000})
			h.waitUp(t)
			for _, payload := range []string{"before", strings.Repeat("x", 1000), strings.Repeat("y", 1001), "after"} {
				if err := b.Publish("kv/updates", []byte(payload), false, 1); err != nil {
					t.Fatal(err)
				}
			}
			poll.Until(t, patience, func() bool { return h.has("kv/updates=after") }, "the message after it")
			if got := h.received(); len(got) != 3 || len(got[1]) != len("kv/updates=")+1000 {
				t.Errorf("%d messages arrived, want 3", len(got))
			}
			if s := h.Stats(); s.Oversize != 1 || s.Connects != 1 {
				t.Errorf("stats %+v", s)
			}
			cl, _ := b.Clients.Get("kv/n1-sub")
			poll.Until(t, patience, func() bool { return cl.State.Inflight.Len() == 0 }, "all acknowledged")
			if err := h.Publish(t.Context(), "kv/updates", false, make([]byte, 1001)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("Publish of an oversize message: %v", err)
			}
		})
	}
}

func TestSlowHandlerDropsAndCounts(t *testing.T) {
	for name, o := range map[string]Options{
		"length": {QueueLen: 3},
		"bytes":  {QueueBytes: 3 * (len("kv/updates") + 1)},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, "127.0.0.1:0", &rights{})
			release, entered := make(chan struct{}), make(chan struct{}, 100)
			o.BrokerURL, o.Subscriptions = b.addr, []string{"kv/#"}
			o.Handler = func(string, []byte) { entered <- struct{}{}; <-release }
			h := run(t, o)
			h.waitUp(t)
			publish := func() {
				if err := h.Publish(t.Context(), "kv/updates", false, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			publish()
			<-entered
			for range 10 {
				publish() // acknowledged, though nobody takes them
			}
			poll.Until(t, patience, func() bool { return h.Stats().Dropped == 7 }, "seven dropped")
			if s := h.Stats(); s.Received != 11 || s.Queued != 3 || !s.State.Up {
				t.Errorf("stats %+v", s)
			}
			close(release)
			poll.Until(t, patience, func() bool { return len(entered) == 3 }, "three delivered")
		})
	}
}

func TestWillOnlyWhenLost(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	p := startProxy(t, b.addr)
	watcher := run(t, Options{BrokerURL: b.addr, ClientID: "watcher", Subscriptions: []string{"kv/nodes/+"}})
	watcher.waitUp(t)
	o := Options{BrokerURL: p.addr(), Will: func() Message {
		return Message{Topic: "kv/nodes/n1", Payload: []byte("gone"), Retained: true}
	}}
	h := run(t, o)
	h.waitUp(t)
	h.stop()
	if err := b.Publish("kv/nodes/x", []byte("mark"), false, 1); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, patience, func() bool { return watcher.has("kv/nodes/x=mark") }, "mark")
	if watcher.has("kv/nodes/n1=gone") {
		t.Error("a clean stop published the will")
	}
	h = run(t, o)
	h.waitUp(t)
	p.cut()
	poll.Until(t, patience, func() bool { return watcher.has("kv/nodes/n1=gone") }, "will")
}

func TestOwnWillIsContradicted(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	p := startProxy(t, b.addr)
	var sessions, greetings atomic.Int64
	h := run(t, Options{
		BrokerURL: p.addr(), Subscriptions: []string{"kv/nodes/+"},
		Will: func() Message {
			return Message{Topic: "kv/nodes/n1", Payload: fmt.Appendf(nil, "gone %d", sessions.Add(1)), Retained: true}
		},
		OnConnect: func() []Message {
			return []Message{{Topic: "kv/nodes/n1", Payload: fmt.Appendf(nil, "here %d", greetings.Add(1)), Retained: true}}
		},
	})
	h.waitUp(t)
	connects := h.Stats().Connects
	p.cut()
	poll.Until(t, patience, func() bool { return h.Stats().Connects > connects && h.Up() }, "second session")
	// What a broker does that notices late that an older connection is dead.
	for _, n := range []int64{sessions.Load() - 1, sessions.Load()} {
		gone := fmt.Sprintf("gone %d", n)
		if err := b.Publish("kv/nodes/n1", []byte(gone), true, 1); err != nil {
			t.Fatal(err)
		}
		poll.Until(t, patience, func() bool {
			got := h.received()
			return h.has("kv/nodes/n1="+gone) && strings.HasPrefix(got[len(got)-1], "kv/nodes/n1=here")
		}, "presence after will", n)
	}
}

func TestSharedClientIDIsNamed(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", &rights{})
	log := &logBuffer{}
	o := Options{BrokerURL: b.addr, ClientID: "same", Logger: slog.New(slog.NewTextHandler(log, nil))}
	run(t, o)
	run(t, o)
	poll.Until(t, patience, func() bool { return log.count("another client using the same client id") > 0 }, "the suspicion")
}

func TestNoProxyVariables(t *testing.T) {
	for _, name := range []string{"all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"} {
		t.Setenv(name, "socks5://127.0.0.1:1")
	}
	b := startBroker(t, "127.0.0.1:0", &rights{})
	run(t, Options{BrokerURL: b.addr, Silence: 3 * time.Second}).waitUp(t)
}

func TestRunOnce(t *testing.T) {
	l, err := New(Options{BrokerURL: "127.0.0.1:1", ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := l.Run(ctx); err == nil {
		t.Error("the second Run returned no error")
	}
	if err := l.Publish(t.Context(), "kv/+", false, nil); err == nil {
		t.Error("a wildcard was published to")
	}
}
