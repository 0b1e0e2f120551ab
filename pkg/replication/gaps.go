package replication

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"merklekv/pkg/hlc"
	"merklekv/pkg/protocol"
	"merklekv/pkg/vector"
)

// want is something that an origin made, some live peer holds, and this node
// has not received.
type want struct {
	since  time.Duration // when it was first missed, or last got closer
	prefix uint64        // of the own vector then
	urgent bool          // it cannot be in flight
	tries  int           // pulls that did not help
	next   time.Duration // not to be pulled before
	dialed time.Duration // when a dial was last started for it

	refused map[uint64]bool // by instance: its log does not reach back to what is missing
	stuck   time.Duration   // since when that is so for all who hold it; never: it is not
	holder  uint64          // instance that holds most, when stuck
}

// assess brings the wants up to date with what the live peers hold. What no live
// peer holds is not wanted: nobody could give it.
func (c *Core) assess() {
	held := make(map[uint64]uint64)
	for _, p := range c.peers {
		if !c.live(p) {
			continue
		}
		for origin, m := range p.known {
			if origin != c.set.Instance {
				held[origin] = max(held[origin], m.Seq)
			}
		}
	}
	for origin := range c.wants {
		if prefix := c.vec.Prefix(origin).Seq; held[origin] <= prefix || c.blocked(origin, prefix) {
			delete(c.wants, origin)
		}
	}
	for origin, seq := range held {
		prefix := c.vec.Prefix(origin).Seq
		if seq <= prefix || c.blocked(origin, prefix) {
			continue
		}
		w := c.wants[origin]
		if w == nil {
			c.met.gaps.Inc()
			w = &want{since: c.now, prefix: prefix, dialed: never, stuck: never}
			c.wants[origin] = w
		}
		if w.prefix != prefix {
			w.since, w.prefix, w.tries, w.next, w.refused = c.now, prefix, 0, 0, nil
		}
		c.judgeStuck(origin, w)
	}
}

// blocked reports whether what is missing of an origin is put off, not lost.
func (c *Core) blocked(origin, prefix uint64) bool {
	d, there := c.deferred[origin]
	return there && (d.Seq == 0 || d.Seq <= prefix+1)
}

// ripe reports whether a want is to be pulled now, and not left to messages in
// flight or to a later try.
func (c *Core) ripe(w *want) bool {
	if c.now < w.next {
		return false
	}
	down := c.start.resumed && !c.ready // what was missed while this node was down is not in flight
	return w.urgent || down || c.linksUp == 0 || c.now-w.since >= gapPatience
}

// plan starts dials for the wants that are ripe: at the origin if it can be
// dialled, else at the peer that holds most of it.
func (c *Core) plan() {
	if !c.pulled || c.takesNothing() {
		return // the first pull brings everything
	}
	c.planRest()
	for _, origin := range slices.Sorted(maps.Keys(c.wants)) {
		w := c.wants[origin]
		if _, under := c.pulling[origin]; under || !c.ripe(w) || c.now-w.dialed < gapPatience {
			continue
		}
		if e := c.source(origin); e != nil && c.dial(e) {
			w.dialed = c.now // who answers there may be somebody else
		}
	}
}

// source returns the endpoint to pull an origin's changes from.
func (c *Core) source(origin uint64) *endpoint {
	w := c.wants[origin]
	if p := c.peers[origin]; p != nil && c.live(p) && !p.pausedNow() && w.hopes(origin) {
		e, busy := c.endpointOf(p)
		if e != nil || busy {
			return e
		}
	}
	var best *endpoint
	most := c.vec.Prefix(origin).Seq
	for _, p := range c.livePeers() {
		if held := p.known[origin].Seq; p.instance != origin && held > most && !p.pausedNow() && w.hopes(p.instance) {
			if e, _ := c.endpointOf(p); e != nil {
				best, most = e, held
			}
		}
	}
	return best
}

// dial starts an exchange with an endpoint, and reports false if too many are
// under way.
func (c *Core) dial(e *endpoint) bool {
	if c.dialing >= maxDials {
		return false
	}
	c.dialing++
	e.busy, e.dialed = true, c.now
	c.emit(Action{Kind: ActDial, Addr: e.addr})
	return true
}

// exchange starts dials to endpoints that nobody has answered at yet, and to
// peers that MQTT does not reach, those first that were not dialled for longest.
func (c *Core) exchange() {
	all := c.endpointsByAddr()
	slices.SortStableFunc(all, func(a, b *endpoint) int { return cmp.Compare(a.dialed, b.dialed) })
	for _, e := range all {
		if e.self || e.busy || c.now < e.next {
			continue
		}
		p := c.peers[e.instance]
		switch {
		case p == nil || !c.pulled && c.whole == "":
			c.dial(e)
		case c.now-p.heardTCP < headEvery:
		case c.linksUp == 0 || c.now-p.heardMQTT > mqttSilence:
			c.dial(e)
		}
	}
}

// PullFrom returns the pull to make on a link to a peer whose head was just
// taken in, nil for none.
func (c *Core) PullFrom(addr string, instance uint64) *protocol.PeerPull {
	p := c.peers[instance]
	if p == nil || c.takesNothing() || p.pausedNow() {
		return nil
	}
	pull := new(protocol.PeerPull)
	switch {
	case !c.pulled && c.whole != "":
		return nil
	case !c.pulled:
		c.whole = addr
	case c.whole == "" && c.restDue(p):
		c.whole = addr
		pull.Repair = c.set.Repair()
	default:
		c.assess()
		for _, origin := range slices.Sorted(maps.Keys(c.wants)) {
			_, under := c.pulling[origin]
			if !under && c.ripe(c.wants[origin]) && c.wants[origin].hopes(instance) && p.known[origin].Seq > c.vec.Prefix(origin).Seq {
				pull.Origins = append(pull.Origins, origin)
				c.pulling[origin] = addr
			}
		}
		if len(pull.Origins) == 0 {
			return nil
		}
		pull.Repair = c.set.Repair()
	}
	c.readOwn()
	pull.Vector, pull.Spans = vectorItems(c.vec), vectorSpans(c.vec, protocol.MaxVectorSpans) // what is not told comes twice
	return pull
}

// PullState is what a pull under way has to remember. The zero value begins one.
type PullState struct {
	late bool  // something was put off
	due  int64 // when the last of that is due, Unix milliseconds
}

// OnEntries merges changes that a pull brought.
func (c *Core) OnEntries(st *PullState, changes []protocol.DecodedChange) {
	c.met.pulledEntries.Add(float64(len(changes)))
	r := c.merge(changes)
	st.late, st.due = st.late || r.late, max(st.due, r.due)
	if c.whole != "" || c.start.resumed && !c.ready {
		c.progress = c.now
	}
}

// OnPullDone takes in the end of a pull. After a full copy the sender's vector
// becomes part of the own one, unless something was put off: a change of any
// origin may have been superseded at the sender by what was put off here, and
// then it is neither here nor in the copy.
func (c *Core) OnPullDone(addr string, instance uint64, st *PullState, done *protocol.PeerDone) {
	c.met.pulls.WithLabelValues("ok").Inc()
	p := c.peers[instance]
	held := make(map[uint64]uint64, len(done.Vector)) // by origin, when it answered
	for _, it := range done.Vector {
		m := vector.Mark{Seq: it.Seq, HLC: hlc.Timestamp(it.HLC)}
		held[it.Instance] = it.Seq
		if p != nil {
			p.note(it.Instance, m)
		}
		if !done.Full || st.late || it.Instance == c.set.Instance {
			continue
		}
		if c.room(it.Instance) && c.vec.Adopt(it.Instance, m) {
			c.touch(it.Instance)
			c.rep.RaiseLogFloor(it.Instance, m.Seq, m.HLC)
			c.raiseFrom(m.HLC.Epoch())
		}
	}
	switch {
	case done.Full:
		c.met.fullCopies.Inc()
	case done.Floor:
		c.met.floors.Inc()
	}
	if c.whole == addr {
		c.pulled, c.whole = true, ""
		if p != nil {
			c.restPulled(p, st, done)
		}
	}
	c.assess()
	for origin, w := range c.wants {
		if c.pulling[origin] == addr {
			if c.set.Repair() && !done.Full && w.prefix < held[origin] {
				w.refusedBy(instance)
				c.judgeStuck(origin, w)
			}
			w.tries++
			w.next = c.now + c.backoff(w.tries, 30*time.Second)
		}
		if done.Full && st.late {
			w.next = max(w.next, c.afterLate(st)) // another copy would be for nothing too
		}
	}
}

// backoff returns how long to wait after a number of failures: doubling from
// 200 ms to a limit, less up to a half of it at random.
func (c *Core) backoff(failures int, limit time.Duration) time.Duration {
	d := limit
	if failures < 12 {
		d = min(limit, 100*time.Millisecond<<failures)
	}
	return d - time.Duration(c.set.Rand()*float64(d)/2)
}

// OnDialEnded takes in that a dial is over: with nil when the heads were
// exchanged and the pull, if there was one, was answered.
func (c *Core) OnDialEnded(addr string, err error) {
	maps.DeleteFunc(c.pulling, func(_ uint64, from string) bool { return from == addr })
	e := c.endpoints[addr]
	if e == nil {
		return
	}
	if c.whole == addr {
		c.whole = ""
		if p := c.peers[e.instance]; p != nil {
			c.restPulled(p, nil, nil)
		}
	}
	if e.busy {
		c.dialing--
	}
	e.busy, e.err = false, ""
	if err == nil {
		e.fails, e.next = 0, c.now
	} else {
		e.fails++
		e.err = err.Error()
		limit := 2 * time.Second
		if e.fails > 30 {
			limit = 10 * time.Second
		}
		e.next = c.now + c.backoff(e.fails, limit)
		for _, h := range c.hosts {
			if slices.Contains(h.addrs, addr) {
				c.resolve(h)
			}
		}
	}
	c.rebuildEndpoints()
	c.step()
}
