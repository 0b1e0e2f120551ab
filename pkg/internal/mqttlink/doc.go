// Package mqttlink keeps a node in touch with one MQTT broker.
//
// A [Link] owns two connections, because brokers have been seen to mix up the
// packet ids of both directions:
//
//	<ClientID>-pub   publishes; carries the last will
//	<ClientID>-sub   subscribes
//
// Together they are a session. A session is up when both are connected, every
// subscription is granted and the messages of OnConnect are out; when either is
// lost, both are torn down and dialled anew:
//
//	      dial pub, dial sub, SUBSCRIBE, OnConnect
//	down ----------------------------------------> up
//	 ^  <---------------------------------------   |
//	 |    connection lost, silence, no PUBACK      |
//	 +-- back-off with jitter (none after a session that lasted)
//
// Nothing is kept for a broker that is away: Publish fails with [ErrDown] at
// once. What messages miss is repaired elsewhere, so a message that cannot be
// delivered is dropped and counted, and nobody waits for it.
//
// # Silence
//
// A broker that hangs, or a network that swallows packets, sends no error. Two
// things notice it. The socket gives up when what it sent stays unacknowledged
// (Linux), or when the other end answers no probe. And a node that subscribes to
// a topic that it publishes to hears itself: when a message of that kind is out
// for longer than Options.Silence and nothing at all has come in since, the
// session is dead. The interval of MQTT's own keep-alive plays no part in that.
//
// # The will
//
// Each session has a will of its own, so that a will tells by its content how old
// it is. A broker that notices late that an old connection is dead publishes its
// will after the new connection has announced itself. A Link that sees its own
// will, of the present session or of the one before, while it is up publishes the
// messages of OnConnect again.
package mqttlink
