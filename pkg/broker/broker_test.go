package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/internal/poll"
)

// patience bounds what a test waits for; nothing takes that long.
const patience = 10 * time.Second

// start runs a broker until the test ends, and checks that it stops.
func start(t *testing.T, o Options) *Broker {
	t.Helper()
	o.Address = "127.0.0.1:0"
	if o.Prefix == "" {
		o.Prefix = "kv"
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	var serveErr error
	served.Go(func() { serveErr = b.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		served.Wait()
		if serveErr != nil {
			t.Errorf("Serve: %v", serveErr)
		}
	})
	return b
}

// inbox collects what a client receives.
type inbox struct {
	mu  sync.Mutex
	got []paho.Message
}

func (i *inbox) add(_ paho.Client, m paho.Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, m)
}

func (i *inbox) payloads() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var s []string
	for _, m := range i.got {
		s = append(s, string(m.Payload()))
	}
	return s
}

func (i *inbox) has(payload string) bool {
	for _, p := range i.payloads() {
		if p == payload {
			return true
		}
	}
	return false
}

// options are those of a test client; change them before connect.
func options(b *Broker, id string) (*paho.ClientOptions, *inbox) {
	in := &inbox{}
	o := paho.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID(id).
		SetProtocolVersion(4).SetAutoReconnect(false).SetDefaultPublishHandler(in.add)
	return o, in
}

func tryConnect(o *paho.ClientOptions) (paho.Client, error) {
	c := paho.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(patience) {
		return c, errors.New("no answer")
	}
	return c, token.Error()
}

func connect(t *testing.T, o *paho.ClientOptions) paho.Client {
	t.Helper()
	c, err := tryConnect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

// subscribe returns the granted quality of service, 0x80 for a refusal.
func subscribe(t *testing.T, c paho.Client, filter string) byte {
	t.Helper()
	token := c.Subscribe(filter, 0, nil)
	if !token.WaitTimeout(patience) {
		t.Error("no SUBACK")
		return 0x80
	}
	for _, qos := range token.(*paho.SubscribeToken).Result() { // the one there is
		return qos
	}
	t.Error("SUBACK without result")
	return 0x80
}

func publish(t *testing.T, c paho.Client, topic string, qos byte, retained bool, payload string) {
	t.Helper()
	if token := c.Publish(topic, qos, retained, payload); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Errorf("publish to %s: %v", topic, token.Error())
	}
}

func TestSubscriberSeesPrefix(t *testing.T) {
	b := start(t, Options{})
	so, in := options(b, "sub")
	sub := connect(t, so)
	if qos := subscribe(t, sub, "kv/#"); qos != 0 {
		t.Fatalf("subscription to kv/# answered with %#x", qos)
	}
	po, _ := options(b, "pub")
	pub := connect(t, po)
	for _, topic := range []string{"kv/updates", "kv/heads", "kv/nodes/n1"} {
		publish(t, pub, topic, 1, false, topic)
	}
	poll.Until(t, patience, func() bool { return len(in.payloads()) == 3 }, "three messages")
}

func TestSubscriptionRights(t *testing.T) {
	tests := []struct {
		filter    string
		anonymous bool
		user      bool
	}{
		{"kv/#", true, true}, {"kv/updates", true, true}, {"kv/heads", true, true},
		{"kv/nodes/+", true, true}, {"kv/nodes/n1", true, true},
		{"#", false, false}, {"+/updates", false, false}, {"kv", false, false}, {"kv/+", false, false},
		{"kv2/#", false, false}, {"kv/nodes/a/b", false, false}, {"kv/nodes/#", false, false},
		{"kv/other", false, false}, {"$share/g/kv/updates", false, false},
		{"$SYS/broker/version", false, false}, {"$SYS/#", false, false},
	}
	open := start(t, Options{})
	oo, _ := options(open, "c")
	anonymous := connect(t, oo)
	closed := start(t, Options{Users: map[string]string{"ann": "secret"}})
	co, _ := options(closed, "c")
	user := connect(t, co.SetUsername("ann").SetPassword("secret"))
	for _, tt := range tests {
		t.Run(tt.filter, func(t *testing.T) {
			if got := subscribe(t, anonymous, tt.filter) == 0; got != tt.anonymous {
				t.Errorf("anonymous: granted %v, want %v", got, tt.anonymous)
			}
			if got := subscribe(t, user, tt.filter) == 0; got != tt.user {
				t.Errorf("user: granted %v, want %v", got, tt.user)
			}
		})
	}
}

func TestPublishRights(t *testing.T) {
	b := start(t, Options{})
	tests := map[string]bool{
		"kv/updates": true, "kv/heads": true, "kv/nodes/n1": true,
		"kv/nodes/": false, "kv/nodes/a/b": false, "kv/other": false, "other/updates": false, "$SYS/broker/version": false,
	}
	for topic, want := range tests {
		if got := b.guard.mayPublish(topic); got != want {
			t.Errorf("%s: may publish %v, want %v", topic, got, want)
		}
	}
	so, in := options(b, "sub")
	subscribe(t, connect(t, so), "kv/#")
	po, _ := options(b, "pub")
	pub := connect(t, po)
	publish(t, pub, "kv/other", 0, false, "forbidden")
	publish(t, pub, "kv/updates", 0, false, "allowed")
	poll.Until(t, patience, func() bool { return in.has("allowed") }, "the allowed message")
	if in.has("forbidden") {
		t.Error("a message to a forbidden topic was delivered")
	}
	if b.Stats().Forbidden == 0 {
		t.Error("the forbidden message was not counted")
	}
	// At QoS 1 the client is told by the end of its connection.
	pub.Publish("kv/other", 1, false, "forbidden")
	poll.Until(t, patience, func() bool { return !pub.IsConnectionOpen() }, "end of the connection")
}

func TestCredentials(t *testing.T) {
	b := start(t, Options{Users: map[string]string{"ann": "secret", "bob": ""}})
	tests := []struct {
		user, password string
		ok             bool
	}{
		{"ann", "secret", true}, {"bob", "", true},
		{"ann", "wrong", false}, {"ann", "", false}, {"eve", "", false}, {"eve", "secret", false}, {"", "", false},
	}
	for i, tt := range tests {
		o, _ := options(b, fmt.Sprint("c", i))
		if tt.user != "" {
			o.SetUsername(tt.user).SetPassword(tt.password)
		}
		c, err := tryConnect(o)
		if (err == nil) != tt.ok {
			t.Errorf("user %q, password %q: %v, want ok %v", tt.user, tt.password, err, tt.ok)
		}
		c.Disconnect(100)
	}
	if got := b.Stats().Refused; got != 5 {
		t.Errorf("%d connections counted as refused, want 5", got)
	}
}

func TestSetUsersCutsOff(t *testing.T) {
	b := start(t, Options{Users: map[string]string{"ann": "1", "bob": "1", "eve": "1"}})
	clients := map[string]paho.Client{}
	for _, user := range []string{"ann", "bob", "eve"} {
		o, _ := options(b, user)
		clients[user] = connect(t, o.SetUsername(user).SetPassword("1"))
	}
	b.SetUsers(map[string]string{"ann": "1", "bob": "2"})
	for _, user := range []string{"bob", "eve"} {
		poll.Until(t, patience, func() bool { return !clients[user].IsConnectionOpen() }, user, " is cut off")
	}
	if qos := subscribe(t, clients["ann"], "kv/#"); qos != 0 {
		t.Errorf("ann lost her rights: %#x", qos)
	}
	o, _ := options(b, "new")
	connect(t, o.SetUsername("bob").SetPassword("2"))
}

func TestWillNeedsRights(t *testing.T) {
	b := start(t, Options{})
	for topic, want := range map[string]bool{"kv/nodes/n1": true, "other": false, "$SYS/broker/version": false} {
		o, _ := options(b, "c")
		c, err := tryConnect(o.SetWill(topic, "gone", 0, true))
		if (err == nil) != want {
			t.Errorf("will to %s: %v, want ok %v", topic, err, want)
		}
		c.Disconnect(100)
	}
}

func TestOnlyPresenceIsRetained(t *testing.T) {
	b := start(t, Options{})
	po, _ := options(b, "pub")
	pub := connect(t, po)
	publish(t, pub, "kv/updates", 1, true, "update")
	publish(t, pub, "kv/nodes/big", 1, true, strings.Repeat("x", maxRetainedBytes+1))
	publish(t, pub, "kv/nodes/n1", 1, true, "here")
	pub.Disconnect(100)

	so, in := options(b, "sub")
	sub := connect(t, so)
	// PUBACK comes before a message is retained.
	poll.Until(t, patience, func() bool { _, ok := b.server.Topics.Retained.Get("kv/nodes/n1"); return ok }, "presence")
	subscribe(t, sub, "kv/#")
	poll.Until(t, patience, func() bool { return in.has("here") }, "retained presence")
	for _, payload := range in.payloads() {
		if payload != "here" { // it may come as a live message, too
			t.Errorf("%.20q is retained, want presence only", payload)
		}
	}
	if c := b.server.Options.Capabilities.MaximumMessageExpiryInterval; c != 0 {
		t.Errorf("retained presence expires after %d s", c)
	}
}

func TestRetainAndSubscribeTogether(t *testing.T) {
	b := start(t, Options{})
	po, _ := options(b, "pub")
	pub := connect(t, po)
	so, _ := options(b, "sub")
	sub := connect(t, so)
	var both sync.WaitGroup
	both.Go(func() {
		for i := range 200 {
			publish(t, pub, fmt.Sprint("kv/nodes/", i%7), 1, true, []string{"here", ""}[i%2])
		}
	})
	both.Go(func() {
		for range 200 {
			subscribe(t, sub, "kv/nodes/+")
		}
	})
	both.Wait() // the race detector looks on
}

func TestCloseWithHalfOpenClients(t *testing.T) {
	b, err := New(Options{Address: "127.0.0.1:0", Prefix: "kv", ConnectTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	var serveErr error
	served.Go(func() { serveErr = b.Serve(context.Background()) })
	rawConnect(t, b, "a")
	half, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = half.Close() }()
	poll.Until(t, patience, func() bool { return b.listener.count() == 2 }, "both connections")
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	served.Wait()
	if !errors.Is(serveErr, ErrClosed) {
		t.Errorf("Serve returned %v, want ErrClosed", serveErr)
	}
	expectEOF(t, half)
}

func TestCloseWithoutServe(t *testing.T) {
	b, err := New(Options{Address: "127.0.0.1:0", Prefix: "kv"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Serve(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve after Close: %v, want ErrClosed", err)
	}
}

func TestBadOptions(t *testing.T) {
	busy := start(t, Options{})
	for name, o := range map[string]Options{
		"no prefix":       {Address: "127.0.0.1:0"},
		"wildcard":        {Address: "127.0.0.1:0", Prefix: "kv/#"},
		"system":          {Address: "127.0.0.1:0", Prefix: "$SYS"},
		"slash":           {Address: "127.0.0.1:0", Prefix: "kv/"},
		"negative":        {Address: "127.0.0.1:0", Prefix: "kv", MaxPacket: -1},
		"user":            {Address: "127.0.0.1:0", Prefix: "kv", Users: map[string]string{"": "x"}},
		"address in use":  {Address: busy.Addr().String(), Prefix: "kv"},
		"address garbled": {Address: "nonsense", Prefix: "kv"},
	} {
		if b, err := New(o); err == nil {
			t.Errorf("%s: no error (%v)", name, b.Close())
		}
	}
}

func TestMetrics(t *testing.T) {
	b := start(t, Options{})
	reg := prometheus.NewPedanticRegistry()
	if err := b.Register(reg); err != nil {
		t.Fatal(err)
	}
	rawConnect(t, b, "a")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 11 {
		t.Errorf("%d metrics, want 11", len(families))
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "merklekv_broker_") || f.GetHelp() == "" {
			t.Errorf("metric %q with help %q", f.GetName(), f.GetHelp())
		}
		if f.GetName() == "merklekv_broker_clients" && f.GetMetric()[0].GetGauge().GetValue() != 1 {
			t.Errorf("clients = %v, want 1", f.GetMetric()[0])
		}
	}
}
