package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// The broker is away for ten seconds of writes, and comes back with nothing: it keeps no data.
func TestBrokerDownUnderLoad(t *testing.T) {
	c := shared(t)
	const perSecond, seconds = 500, 10
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load := startLoad(ctx, c, perSecond)
	stop(t, c, Broker)
	atStop := load.acknowledged()
	Eventually(t, "the nodes are written to while the broker is away", func() error {
		if n := load.acknowledged() - atStop; n < perSecond*seconds {
			return fmt.Errorf("%d writes of %d are answered", n, perSecond*seconds)
		}
		return load.refused()
	})
	must(t, c.Start(t.Context(), Broker))
	must(t, c.WaitHealthy(t.Context(), Broker))
	back := time.Now()
	for _, from := range c.All() {
		seenOnBroker(t, c, from)
	}
	cancel()
	load.wait()
	must(t, load.refused())
	converged(t, c.All()...)
	t.Logf("%d writes, none refused, equal %v after the broker was back", load.acknowledged(), time.Since(back).Round(time.Millisecond))
	held := same(t, c.All()...)
	for key, value := range load.last {
		if held[key] != value {
			t.Errorf("%s is %q, the last write that was answered is %q", key, held[key], value)
		}
	}
}

// load writes on all nodes at a rate until its context ends.
type load struct {
	done sync.WaitGroup

	mu    sync.Mutex
	count int
	err   error             // the first write that was not answered by OK
	last  map[string]string // what was answered last, by key; to be read after wait
}

// burst is how many writes go to a node at a time.
const burst = 10

// startLoad starts one writer a node, which all together write so many times a second.
func startLoad(ctx context.Context, c *Cluster, perSecond int) *load {
	l := &load{last: map[string]string{}}
	for _, n := range c.All() {
		l.done.Go(func() {
			tick := time.NewTicker(time.Second * burst * Nodes / time.Duration(perSecond))
			defer tick.Stop()
			for i := 0; ; i += burst {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					l.burst(n, i)
				}
			}
		})
	}
	return l
}

// burst writes some keys of the node's own, over and over again.
func (l *load) burst(n Node, first int) {
	written := map[string]string{}
	var requests []string
	for i := first; i < first+burst; i++ {
		key, value := fmt.Sprintf("load:%s:%d", n.Name, i%500), fmt.Sprint("write ", i)
		requests = append(requests, "SET "+key+" "+value)
		written[key] = value
	}
	err := n.Write("OK", requests...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.err == nil {
			l.err = err
		}
		return
	}
	l.count += len(requests)
	maps.Copy(l.last, written)
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

func (l *load) refused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *load) wait() { l.done.Wait() }

// Anybody who reaches the broker of a cluster without a secret can publish what they like.
func TestJunkOnTheTopicsHasNoEffect(t *testing.T) {
	c := shared(t)
	writeOnAll(t, c, "junk")
	messages := junk(genuine(t, c))
	converged(t, c.All()...)
	before := same(t, c.All()...)
	dropped := map[string]float64{}
	for _, n := range c.All() {
		dropped[n.Name] = metric(t, n, droppedMessages)
	}
	for _, m := range messages {
		for _, retained := range []bool{false, true} {
			publishJunk(t, c, m, retained)
		}
	}
	for _, n := range c.All() {
		Eventually(t, n.Name+" drops messages", func() error {
			if now := metric(t, n, droppedMessages); now <= dropped[n.Name] {
				return fmt.Errorf("it has dropped %v, %v before", now, dropped[n.Name])
			}
			return nil
		})
	}
	converged(t, c.All()...)
	if after := same(t, c.All()...); !maps.Equal(before, after) {
		t.Errorf("%d keys after the junk, %d before, and they are not the same", len(after), len(before))
	}
	// What the broker retained meets every node that subscribes anew.
	stop(t, c, NodeName(3))
	must(t, c.Start(t.Context(), NodeName(3)))
	must(t, c.WaitHealthy(t.Context(), NodeName(3)))
	for _, from := range c.All() {
		seenOnBroker(t, c, from)
	}
	converged(t, c.All()...)
	for key, value := range same(t, c.All()...) {
		if old, found := before[key]; (!found || old != value) && !strings.HasPrefix(key, "published:") {
			t.Errorf("%s is %q, it was %q before the junk", key, value, old)
		}
	}
}

// message is one for the broker.
type message struct {
	topic   string
	payload []byte
}

// junk is what a stranger could send: noise, too much, nothing, and what nodes have really sent,
// damaged and once more.
func junk(genuine []message) []message {
	noise := make([]byte, 4096)
	rand.Read(noise)
	var all []message
	for _, topic := range []string{updatesTopic, "merkle-kv/heads", "merkle-kv/nodes/node1", "merkle-kv/nodes/stranger"} {
		for _, payload := range [][]byte{noise, noise[:1], []byte("hello"), make([]byte, 2<<20), {}} {
			all = append(all, message{topic, payload})
		}
	}
	for _, m := range genuine {
		damaged := append([]byte(nil), m.payload...)
		damaged[len(damaged)/2] ^= 0xff
		all = append(all, message{m.topic, damaged}, message{m.topic, m.payload[:len(m.payload)-1]}, m)
	}
	return all
}

// genuine are some messages that the nodes have published.
func genuine(t *testing.T, c *Cluster) []message {
	t.Helper()
	seen := make(chan message, 64)
	subscriber := connect(t, c, "listener")
	defer subscriber.Disconnect(0)
	token := subscriber.Subscribe("merkle-kv/#", 0, func(_ mqtt.Client, m mqtt.Message) {
		select {
		case seen <- message{m.Topic(), m.Payload()}:
		default:
		}
	})
	if !token.WaitTimeout(replyTimeout) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	var all []message
	Eventually(t, "an update and a head are heard", func() error {
		write(t, c.Node(1), "OK", "SET junk:sample value")
		topics := map[string]bool{}
		for {
			select {
			case m := <-seen:
				if len(m.payload) > 0 {
					all = append(all, m)
				}
				continue
			default:
			}
			break
		}
		for _, m := range all {
			topics[m.topic] = true
		}
		if !topics[updatesTopic] || !topics["merkle-kv/heads"] {
			return fmt.Errorf("only these topics: %v", topics)
		}
		return nil
	})
	return all
}

// publishJunk publishes over a connection of its own: the broker may end it for what it is sent.
func publishJunk(t *testing.T, c *Cluster, m message, retained bool) {
	t.Helper()
	publisher := connect(t, c, "stranger")
	defer publisher.Disconnect(100)
	publisher.Publish(m.topic, 0, retained, m.payload).WaitTimeout(time.Second)
}

// connect connects a client that is no node with the broker.
func connect(t *testing.T, c *Cluster, id string) mqtt.Client {
	t.Helper()
	options := mqtt.NewClientOptions().
		AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", c.BrokerPort())).
		SetClientID(id).SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(5 * time.Second)
	var connected mqtt.Client
	Eventually(t, id+" connects with the broker", func() error {
		connected = mqtt.NewClient(options)
		token := connected.Connect()
		if !token.WaitTimeout(replyTimeout) || token.Error() != nil {
			return fmt.Errorf("connect: %v", token.Error())
		}
		return nil
	})
	return connected
}

const droppedMessages = "merklekv_replication_dropped_messages_total"

// metric is the sum of a metric over all its labels.
func metric(t *testing.T, n Node, name string) float64 {
	t.Helper()
	body, err := n.Get("/metrics")
	must(t, err)
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &value); err != nil {
			t.Fatalf("%s: %q: %v", n.Name, line, err)
		}
		sum, found = sum+value, true
	}
	if !found {
		t.Fatalf("%s has no metric %s", n.Name, name)
	}
	return sum
}
