// Package replication carries changes from node to node: by MQTT as long as a
// broker is there, and by a link between two nodes for whatever messages missed.
//
// A Core, which has no clock, socket or goroutine, decides; the Replicator runs
// it. DESIGN.md draws topics, messages and frames and says why the rules are
// what they are.
//
// Whoever runs a Core itself, as a simulation does, calls in this order:
//
//	c := NewCore(options, replica)
//	c.AddHost("peer:7878", true)             // for each configured peer
//
//	// each 100 ms, and whenever something arrives:
//	c.SetNow(now)
//	c.Tick()                                 // or OnBatch, OnHead, OnPresence, OnLinks, ...
//	for _, a := range c.Take() { ... }       // carry out
//
//	// own changes, after each of them or each tick:
//	for body, n := batcher.Next(); n > 0; body, n = batcher.Next() {
//		message := codec.Seal(KindBatch, instance, counter, body)
//	}
//
//	// ActResolve: OnResolved(a.Addr, addresses)
//	// ActHead: publish Seal(KindHead, instance, counter, a.Head); there OnHead(head, ViaMQTT)
//	// ActAsk: publish Seal(KindAsk, instance, counter, nil); there OnAsk()
//	// ActDial, n being the dialler and m who answers:
//	n.OnHello(a.Addr, hello of m)            // on an error: OnDialEnded(a.Addr, nil)
//	m.OnHello("", hello of n)
//	m.OnRelay(DecodeRelay(n.Relay(instance of m))) // nil: nothing to pass on; and the other way round
//	m.OnHead(DecodeHead(n.HeadNow()), ViaTCP)
//	n.OnHead(DecodeHead(m.HeadNow()), ViaTCP)
//	if pull := n.PullFrom(a.Addr, instance of m); pull != nil {
//		st := new(PullState)
//		answer := NewAnswer(replica of m, m.Serve(pull), pull, func(payload ...[]byte) error {
//			changes, err := protocol.DecodeEntries(joined payload, 0, 0)
//			n.OnEntries(st, changes)
//		})
//		done, err := answer.Run()
//		n.OnPullDone(a.Addr, instance of m, st, done)
//	}
//	n.OnDialEnded(a.Addr, err)               // always, at the end
package replication
