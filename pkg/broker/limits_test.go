package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
)

// rawConnect sends a CONNECT by hand and reads the CONNACK.
func rawConnect(t *testing.T, b *Broker, id string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)
	if _, err := nc.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(nc, ack); err != nil || !bytes.Equal(ack, []byte{0x20, 2, 0, 0}) {
		t.Fatalf("CONNACK % x: %v", ack, err)
	}
	return nc
}

func TestStalledSubscriberDelaysNobody(t *testing.T) {
	b := start(t, Options{WriteTimeout: 50 * time.Millisecond})
	so, in := options(b, "healthy")
	subscribe(t, connect(t, so), "kv/#")

	stalled := rawConnect(t, b, "stalled")
	filter := "kv/updates"
	sub := append([]byte{0, 1, 0, byte(len(filter))}, filter...)
	sub = append(sub, 1) // QoS 1: the worst case
	if _, err := stalled.Write(append([]byte{0x82, byte(len(sub))}, sub...)); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, patience, func() bool { return b.Stats().Subscriptions == 2 }, "both subscriptions")

	// Nobody reads from the stalled one: its socket is full after some of these.
	po, _ := options(b, "pub")
	pub := connect(t, po)
	big := strings.Repeat("x", 256<<10)
	const messages = 200
	for range messages {
		publish(t, pub, "kv/updates", 1, false, big)
	}
	poll.Until(t, patience, func() bool { return b.Stats().Clients == 2 }, "the stalled client is cut off")
	publish(t, pub, "kv/updates", 1, false, "last")
	poll.Until(t, patience, func() bool { return in.has("last") }, "the healthy client has the last message")
	if got := len(in.payloads()); got != messages+1 {
		t.Errorf("the healthy client has %d messages, want %d", got, messages+1)
	}
}

// expectEOF fails unless the broker closes the connection.
func expectEOF(t *testing.T, nc net.Conn) {
	t.Helper()
	if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := nc.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the broker did not close the connection: %v", err)
	}
}

func TestBadFirstPacket(t *testing.T) {
	b := start(t, Options{ConnectTimeout: 100 * time.Millisecond})
	tests := map[string][]byte{
		"huge CONNECT":          {0x10, 0xff, 0xff, 0xff, 0x7f},
		"CONNECT above limit":   {0x10, 0x81, 0x80, 0x04},
		"endless length":        {0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80},
		"PUBLISH first":         {0x30, 0x03, 0, 1, 'a'},
		"HTTP":                  []byte("GET / HTTP/1.1\r\n\r\n"),
		"half a CONNECT":        {0x10, 0x20, 0, 4, 'M'},
		"nothing":               {},
		"CONNECT of an old age": {0x10, 0x0e, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 0, 0, 0},
	}
	for name, first := range tests {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", b.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			if _, err := nc.Write(first); err != nil {
				t.Fatal(err)
			}
			if name == "CONNECT of an old age" {
				_, _ = io.ReadFull(nc, make([]byte, 4)) // a CONNACK that refuses
			}
			expectEOF(t, nc)
		})
	}
	poll.Until(t, patience, func() bool { return b.listener.count() == 0 }, "no connection is left")
}

func TestOversizePacketEndsConnection(t *testing.T) {
	b := start(t, Options{MaxPacket: 1000})
	nc := rawConnect(t, b, "c")
	if _, err := nc.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}); err != nil {
		t.Fatal(err)
	}
	expectEOF(t, nc)
}

func TestTooManyClients(t *testing.T) {
	b := start(t, Options{MaxClients: 2})
	first := rawConnect(t, b, "a")
	rawConnect(t, b, "b")
	nc, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	expectEOF(t, nc)
	_ = first.Close()
	poll.Until(t, patience, func() bool { return b.listener.count() == 1 }, "room for another")
	rawConnect(t, b, "c")
}
