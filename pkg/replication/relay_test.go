package replication

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"merklekv/pkg/protocol"
)

// passedOn returns what a core gets of the heads that another one passes on.
func passedOn(t *testing.T, from *Core, to uint64) []RelayedHead {
	t.Helper()
	body := from.Relay(to)
	if body == nil {
		return nil
	}
	heads, err := DecodeRelay(body)
	if err != nil {
		t.Fatal(err)
	}
	return heads
}

func TestHeadsArePassedOn(t *testing.T) {
	b := joined(t)
	b.at(5*time.Second).OnHead(testHead("c", 3, 7, 4), ViaMQTT)
	b.at(5*time.Second).OnHead(testHead("a", 1, 9, 0), ViaMQTT)
	b.at(7 * time.Second)
	got := passedOn(t, b, 1)
	if len(got) != 1 || got[0].Head.NodeID != "c" || got[0].Head.Counter != 7 || got[0].Age != 2*time.Second {
		t.Fatalf("passed on to a: %+v", got)
	}
	if n := len(passedOn(t, b, 99)); n != 2 {
		t.Fatalf("%d heads passed on to a third one", n)
	}

	c := joined(t)
	c.at(100 * time.Second).OnRelay(got)
	p := c.peers[3]
	if p == nil || p.known[3].Seq != 4 || c.live(p) {
		t.Fatalf("after a relayed head: %+v", p)
	}
	if s := c.Status(); s.Peers[1].HeadAge != 2*time.Second || s.Peers[1].Live {
		t.Fatalf("%+v", s.Peers[1])
	}
	c.at(101 * time.Second).Tick()
	if c.peers[3] == nil {
		t.Fatal("an instance known by relayed heads only is forgotten at once")
	}
	if again := passedOn(t, c, 1); len(again) != 1 || again[0].Age != 3*time.Second {
		t.Fatalf("passed on again: %+v", again)
	}
	c.at(102 * time.Second)
	if again := passedOn(t, c, 1); again != nil {
		t.Fatalf("passed on when too old: %+v", again)
	}
	// Its own message of the same head still shows that it is there.
	c.OnHead(testHead("c", 3, 7, 4), ViaMQTT)
	if !c.live(c.peers[3]) {
		t.Fatal("a head that was passed on before does not count when its node sends it")
	}
}

func TestRelayedHeadsThatChangeNothing(t *testing.T) {
	c := joined(t)
	c.at(time.Second).OnPresence(&Presence{Instance: 1, NodeID: "a"}, 1)
	c.OnRelay([]RelayedHead{
		{Head: testHead("me", 50, 1000, 9)}, // its own
		{Head: testHead("a", 1, 1, 9)},      // an old one
	})
	if c.peers[50] != nil || c.peers[1].known[1].Seq != 0 {
		t.Fatal("an own or an old head was taken in")
	}
	c.OnRelay([]RelayedHead{{Head: testHead("a", 1, 99, 9)}})
	if c.peers[1].known[1].Seq != 9 || c.live(c.peers[1]) {
		t.Fatal("a relayed head has to tell what its node holds, and not that it is there")
	}
}

func TestRelayFrameIsChecked(t *testing.T) {
	head := EncodeHead(testHead("a", 1, 1, 0))
	many := make([]relayBody, maxRelayed+1)
	for i := range many {
		many[i].Head = []byte{0xa0}
	}
	for name, payload := range map[string][]byte{
		"no list":  head,
		"no head":  protocol.EncodeCBOR([]relayBody{{Head: []byte{0xa0}}}),
		"too old":  protocol.EncodeCBOR([]relayBody{{Age: 1 << 40, Head: head}}),
		"too many": protocol.EncodeCBOR(many),
		"counter":  protocol.EncodeCBOR([]relayBody{{Head: EncodeHead(testHead("a", 1, 0, 0))}}),
	} {
		if _, err := DecodeRelay(payload); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := joined(t)
	for i := range uint64(2000) {
		h := testHead("n", 1000+i, 1, 0)
		h.Address = strings.Repeat("x", 400) + ":1"
		b.OnHead(h, ViaMQTT)
	}
	body := b.Relay(1)
	if n := len(passedOn(t, b, 1)); n < 100 || len(body) > 256<<10 {
		t.Fatalf("%d heads in %d bytes", n, len(body))
	}
}

func TestHeadsNameOtherPeers(t *testing.T) {
	b := joined(t)
	b.at(time.Second).OnHead(testHead("c", 3, 1, 0), ViaMQTT)
	h := b.head()
	if !slices.Equal(h.Peers, []string{"a:1", "c:1"}) {
		t.Fatalf("peers %v", h.Peers)
	}
	b.OnPresence(&Presence{Instance: 3, NodeID: "c"}, 1)
	if h := b.head(); !slices.Equal(h.Peers, []string{"a:1"}) {
		t.Fatalf("peers %v after one said good-bye", h.Peers)
	}
	back, err := DecodeHead(EncodeHead(h))
	if err != nil || !slices.Equal(back.Peers, h.Peers) {
		t.Fatalf("%v, %v", back, err)
	}
	h.Peers = slices.Repeat([]string{"a:1"}, maxHeadPeers+1)
	if _, err := DecodeHead(EncodeHead(h)); !errors.Is(err, ErrMalformed) {
		t.Fatalf("too many addresses: %v", err)
	}

	c := joined(t)
	told := testHead("a", 1, 5, 0)
	told.Peers = []string{"c:1", "me:1", "no address", "a b:1"}
	c.at(time.Second).OnHead(told, ViaMQTT)
	var names []string
	for _, a := range c.Take() {
		if a.Kind == ActResolve {
			names = append(names, a.Addr)
		}
	}
	if !slices.Equal(names, []string{"c:1"}) {
		t.Fatalf("looked up %v", names)
	}
}

func TestSilentAddresses(t *testing.T) {
	c := testCore(t, "a:1", "b:1", "c:1")
	if got := c.Status().Silent; !slices.Equal(got, []string{"a:1", "b:1", "c:1"}) {
		t.Fatalf("silent %v", got)
	}
	if err := c.OnHello("a:1", testHello("a", 1)); err != nil {
		t.Fatal(err)
	}
	c.OnHead(testHead("b", 2, 1, 0), ViaMQTT)
	c.OnHead(&Head{NodeID: "x", Instance: 9, Counter: 1, Address: "x:1"}, ViaMQTT)
	if got := c.Status().Silent; !slices.Equal(got, []string{"c:1"}) {
		t.Fatalf("silent %v", got)
	}
}

func TestForget(t *testing.T) {
	c := joined(t)
	c.at(time.Second).OnHead(testHead("c", 3, 1, 0), ViaMQTT)
	c.Forget("c")
	if c.peers[3] == nil {
		t.Fatal("a node that is alive was forgotten")
	}
	c.OnPresence(&Presence{Instance: 3, NodeID: "c", Address: "c:1"}, 1)
	c.OnPresence(&Presence{Instance: 1, NodeID: "a", Address: "a:1"}, 1)
	c.Forget("c")
	c.Forget("a")
	if len(c.peers) != 0 || c.hosts["c:1"] != nil {
		t.Fatalf("%d peers, address %v", len(c.peers), c.hosts["c:1"])
	}
	if c.hosts["a:1"] == nil {
		t.Fatal("a configured address was forgotten")
	}
}

func TestPausedNodeTakesAndGivesNothing(t *testing.T) {
	c := joined(t)
	c.at(time.Second).SetEnabled(false)
	c.OnBatch(testBatch(1, 1, 3))
	c.OnHead(testHead("a", 1, 3, 3), ViaMQTT)
	c.Tick()
	if got := dials(c); got != nil || c.vec.Prefix(1).Seq != 0 {
		t.Fatalf("dials %v, prefix %v while paused", got, c.vec.Prefix(1))
	}
	if c.PullFrom("a:1", 1) != nil || !c.head().Paused || !c.Status().Paused {
		t.Fatal("a paused node pulls, or does not say that it is paused")
	}
	c.at(2 * time.Second).SetEnabled(true)
	c.OnHead(testHead("a", 1, 4, 3), ViaMQTT)
	if got := dials(c); !slices.Equal(got, []string{"a:1"}) || c.head().Paused {
		t.Fatalf("dials %v after that", got)
	}

	other := joined(t)
	h := testHead("a", 1, 3, 3)
	h.Paused = true
	other.at(time.Second).OnHead(h, ViaMQTT)
	if got := dials(other); got != nil || other.PullFrom("a:1", 1) != nil {
		t.Fatalf("dials %v, and a paused peer is pulled from", got)
	}
}

func TestHeadsAreAskedForTwentyTimesASecond(t *testing.T) {
	c := joined(t)
	count := func() (asks, dialled int) {
		for _, a := range c.Take() {
			switch a.Kind {
			case ActAsk:
				asks++
			case ActDial:
				dialled++
			}
		}
		return asks, dialled
	}
	c.at(time.Second)
	for range 10 {
		c.RequestHeads()
	}
	if asks, dialled := count(); asks != 1 || dialled != 0 {
		t.Fatalf("%d asks, %d dials", asks, dialled)
	}
	c.OnLinks(0)
	c.OnHead(testHead("a", 1, 9, 0), ViaTCP) // heard just now
	c.at(time.Second + headGap).RequestHeads()
	if asks, dialled := count(); asks != 1 || dialled != 1 {
		t.Fatalf("%d asks, %d dials without a broker", asks, dialled)
	}
	c.at(2 * time.Second).Tick()
	count()
	c.at(2*time.Second + headGap).OnAsk()
	heads := slices.ContainsFunc(c.Take(), func(a Action) bool { return a.Kind == ActHead })
	if !heads {
		t.Fatal("no head for who asks")
	}
}
