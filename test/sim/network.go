package main

import (
	"time"

	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

// broker is the place of the broker among the ends of links.
const broker = maxNodes

// network is what lies between the nodes: a link between each two of them, one
// from each to the broker, and the broker.
type network struct {
	w        *world
	codec    *replication.Codec
	cut      [maxNodes + 1][maxNodes + 1]int // by how many faults; both ways alike
	down     int                             // faults that keep the broker down
	retained [maxNodes]*message
	calm     bool // nothing is lost or repeated any more, and all is quick
	last     [maxNodes][maxNodes]time.Duration

	messages, bytes, lost uint64
}

// message is one that went through the broker. All receivers share it, and
// change nothing in it.
type message struct {
	from     int
	instance uint64
	counter  uint64
	batch    *replication.Batch
	head     *replication.Head
	presence *replication.Presence
	asks     bool
	size     int
}

// joined reports whether two ends of a link reach each other.
func (n *network) joined(a, b int) bool { return n.cut[a][b] == 0 }

// reaches reports whether a node reaches the broker.
func (n *network) reaches(id int) bool { return n.down == 0 && n.cut[id][broker] == 0 }

// sever cuts a link, or takes one cut back.
func (n *network) sever(a, b, by int) {
	n.cut[a][b] += by
	n.cut[b][a] = n.cut[a][b]
	n.linksChanged()
}

// stop takes the broker down, or one fault that does so back. What it retained is
// gone if it forgets.
func (n *network) stop(by int, forget bool) {
	n.down += by
	if forget {
		n.retained = [maxNodes]*message{}
	}
	n.linksChanged()
}

// linksChanged has nodes find out, after a while, that the broker is gone or back.
func (n *network) linksChanged() {
	for _, node := range n.w.nodes {
		n.linkChanged(node)
	}
}

func (n *network) linkChanged(node *node) {
	reaches := n.reaches(node.id)
	if reaches == node.connected {
		return
	}
	wait := span[time.Duration]{200 * time.Millisecond, 3 * time.Second} // until silence tells
	if reaches {
		wait = span[time.Duration]{10 * time.Millisecond, 500 * time.Millisecond}
	}
	node.after(drawTime(n.w.rng.net, wait), func() {
		if n.reaches(node.id) == reaches && node.connected != reaches {
			n.connect(node, reaches)
		}
	})
}

// connect tells a node and the broker of each other, or parts them.
func (n *network) connect(node *node, up bool) {
	node.connected = up
	n.w.trace.note("connected", uint64(node.id), count(up))
	if !up {
		n.depart(node)
		node.call(func() { node.core.OnLinks(0) })
		return
	}
	node.will = n.presence(node, false)
	n.publish(node, n.presence(node, true))
	for _, m := range n.retained {
		if m != nil && m.instance != node.instance {
			n.send(node, m)
		}
	}
	node.batches.Skip()
	node.call(func() { node.core.OnLinks(1) })
}

// depart has the broker, if it is there, say that a node is gone.
func (n *network) depart(node *node) {
	if m := node.will; m != nil && n.down == 0 {
		n.fanOut(m)
		n.retained[node.id] = m
	}
	node.will = nil
}

func count(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (n *network) presence(node *node, up bool) *message {
	body := protocol.EncodeCBOR(&replication.Presence{
		Instance: node.instance, NodeID: node.name, Address: node.addr, Started: node.started, Up: up, At: node.millis(),
		Volume: node.volume(),
	})
	return n.pack(node, replication.KindPresence, body)
}

// pack seals what a node says and opens it again, as its receivers will.
func (n *network) pack(node *node, kind replication.Kind, body []byte) *message {
	node.counter++
	sealed := n.codec.Seal(kind, node.instance, node.counter, body)
	n.w.trace.note("seals", uint64(node.id), uint64(kind), uint64(len(sealed)), sum(sealed))
	m := &message{from: node.id, instance: node.instance, counter: node.counter, size: len(sealed)}
	opened, err := n.codec.Open(sealed)
	if err == nil {
		switch kind {
		case replication.KindBatch:
			m.batch, err = replication.DecodeBatch(opened)
		case replication.KindHead:
			m.head, err = replication.DecodeHead(opened.Body)
		case replication.KindAsk:
			m.asks = true
		default:
			m.presence, err = replication.DecodePresence(opened.Body)
		}
	}
	if err != nil {
		n.w.fail("node %d sends what cannot be read: %v", node.id, err)
	}
	return m
}

// publish has the broker pass a message on, if it gets it.
func (n *network) publish(from *node, m *message) {
	n.messages++
	n.bytes += uint64(m.size)
	if !from.connected || !n.reaches(from.id) {
		n.lost++
		return
	}
	if m.presence != nil {
		n.retained[from.id] = m
	}
	n.fanOut(m)
}

func (n *network) fanOut(m *message) {
	r, p := n.w.rng.net, &n.w.plan
	for _, to := range n.w.nodes {
		for again := true; again; again = !n.calm && r.Float64() < p.dup {
			if !n.calm && r.Float64() < p.loss {
				n.lost++
				continue
			}
			n.send(to, m)
		}
	}
}

// send has a message arrive at a node, if its connection lasts so long.
func (n *network) send(to *node, m *message) {
	at := n.w.now + n.delay()
	if n.w.prof.ordered {
		at = max(at, n.last[m.from][to.id])
		n.last[m.from][to.id] = at
	}
	to.after(at-n.w.now, func() {
		if !to.connected || !n.reaches(to.id) {
			n.lost++
			return
		}
		to.hear(m)
	})
}

// delay draws how long a message takes.
func (n *network) delay() time.Duration {
	most := n.w.plan.delay
	if n.calm {
		most = min(most, 50*time.Millisecond)
	}
	return time.Millisecond + time.Duration(n.w.rng.net.Int64N(int64(most)))
}

// trip draws how long a frame takes on a link.
func (n *network) trip() time.Duration { return min(n.delay()/4, 200*time.Millisecond) }

// breaks draws whether a link breaks.
func (n *network) breaks() bool { return !n.calm && n.w.rng.net.Float64() < n.w.plan.breaks }
