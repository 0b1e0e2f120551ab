package replication

import (
	"slices"
	"strings"
	"testing"
	"time"

	"merklekv/pkg/protocol"
)

// sighting is a message of another instance with the node_id of a core.
type sighting struct {
	at      time.Duration // when it arrives, after the core's start
	made    time.Duration // when its sender made it, after the core's start
	counter uint64
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestRivals(t *testing.T) {
	for name, tc := range map[string]struct {
		messages []sighting
		started  int64 // of the rival, after the core
		leaves   bool
	}{
		"one message":                     {[]sighting{{seconds(4), seconds(4), 1}}, -1, false},
		"a burst":                         {[]sighting{{seconds(4), seconds(4), 1}, {seconds(4.1), seconds(4.1), 2}}, -1, false},
		"on the way when it died":         {[]sighting{{0, seconds(-1), 1}, {seconds(1), seconds(-1), 2}, {seconds(2), seconds(-1), 3}}, -1, false},
		"made in the first seconds":       {[]sighting{{seconds(1), seconds(1), 1}, {seconds(2.9), seconds(2.9), 2}}, -1, false},
		"dead, kept by two brokers":       {[]sighting{{seconds(4), seconds(-2), 3}, {seconds(9), seconds(-1), 7}, {seconds(12), seconds(-1), 8}}, -1, false},
		"dead, one message after another": {[]sighting{{seconds(4), seconds(3), 1}, {seconds(9), seconds(-1), 7}}, -1, false},
		"the same message twice":          {[]sighting{{seconds(4), seconds(4), 1}, {seconds(9), seconds(4), 1}}, -1, false},
		"an older message second":         {[]sighting{{seconds(5), seconds(5), 2}, {seconds(9), seconds(4), 1}}, -1, false},
		"alive, started earlier":          {[]sighting{{0, 0, 1}, {seconds(4), seconds(4), 2}, {seconds(5), seconds(5), 3}}, -1, true},
		"alive, started later":            {[]sighting{{seconds(4), seconds(4), 2}, {seconds(5), seconds(5), 3}}, 1, false},
		"same start, lesser instance":     {[]sighting{{seconds(4), seconds(4), 2}, {seconds(5), seconds(5), 3}}, 0, true},
		"clock ahead, soon after start":   {[]sighting{{0, seconds(9), 1}, {seconds(1), seconds(10), 2}}, -1, false},
	} {
		for way, send := range map[string]func(*Core, sighting){
			"heads": func(c *Core, s sighting) {
				h := testHead("me", 49, s.counter, 0)
				h.Started, h.Wall = coreWall+tc.started, coreWall+s.made.Milliseconds()
				c.OnHead(h, ViaMQTT)
			},
			"up": func(c *Core, s sighting) {
				c.OnPresence(rivalPresence(tc.started, s.made, true), s.counter)
			},
			"wills": func(c *Core, s sighting) {
				c.OnPresence(rivalPresence(tc.started, s.made, false), s.counter)
			},
			"up and wills by turns": func(c *Core, s sighting) {
				c.OnPresence(rivalPresence(tc.started, s.made, s.counter%2 == 1), s.counter)
			},
		} {
			c := testCore(t)
			for _, s := range tc.messages {
				c.at(s.at).onMessageOf(s, send)
			}
			if (c.leaving != nil) != tc.leaves {
				t.Errorf("%s by %s: leaves %v, want %v", name, way, c.leaving != nil, tc.leaves)
			}
		}
	}
}

// onMessageOf passes time as the shell does, and then a message.
func (c *Core) onMessageOf(s sighting, send func(*Core, sighting)) {
	c.Tick()
	send(c, s)
	c.Tick()
}

// rivalPresence is the presence of a twin that has the core's very address.
func rivalPresence(started int64, made time.Duration, up bool) *Presence {
	return &Presence{Instance: 49, NodeID: "me", Address: "me:1", Started: coreWall + started, Up: up,
		At: coreWall + made.Milliseconds()}
}

func TestRivalThatAnswersIsAlive(t *testing.T) {
	c := testCore(t)
	c.OnPresence(&Presence{Instance: 49, NodeID: "me", Address: "twin:1", Started: coreWall - 1, Up: false}, 1)
	c.OnResolved("twin:1", []string{"twin:1"})
	if got := dials(c); len(got) != 1 || got[0] != "twin:1" {
		t.Fatalf("dials %v to see whether the other one lives", got)
	}
	hello := &protocol.PeerHello{NodeID: "me", Instance: 49, Address: "twin:1", Started: coreWall - 1}
	if err := c.OnHello("twin:1", hello); err != nil {
		t.Fatal(err)
	}
	if c.leaving == nil {
		t.Fatal("does not give way to a twin that answers")
	}
}

func TestRivalsAreBounded(t *testing.T) {
	c := testCore(t)
	for i := range uint64(2 * maxRivals) {
		c.OnPresence(&Presence{Instance: 1000 + i, NodeID: "me", Address: "me:1", Up: false}, 1)
	}
	if len(c.rivals) != maxRivals {
		t.Fatalf("%d rivals are remembered, want %d", len(c.rivals), maxRivals)
	}
}

// A node with another node_id and this node's volume number is named, as long as it
// is alive; what a predecessor left behind is not.
func TestClonedVolumeIsNamed(t *testing.T) {
	head := func(volume uint64, counter uint64, made time.Duration) *Head {
		h := testHead("copy", 49, counter, 0)
		h.Volume, h.Wall = volume, coreWall+made.Milliseconds()
		return h
	}
	for name, tc := range map[string]struct {
		own, theirs uint64
		made        time.Duration // of the first head
		cloned      bool
	}{
		"the same volume":   {9, 9, seconds(4), true},
		"another volume":    {9, 8, seconds(4), false},
		"both keep nothing": {0, 0, seconds(4), false},
		"made before":       {9, 9, seconds(-4), false},
	} {
		c := testCoreWith(t, CoreOptions{Volume: tc.own})
		c.at(seconds(5)).OnHead(head(tc.theirs, 1, tc.made), ViaMQTT)
		if got := c.Status().Clones; got != nil {
			t.Errorf("%s: %v after one head", name, got)
		}
		c.at(seconds(6)).OnHead(head(tc.theirs, 2, tc.made+seconds(1)), ViaMQTT)
		want := []Clone{{NodeID: "copy", Instance: 49, Address: "copy:1"}}
		if got := c.Status().Clones; slices.Equal(got, want) != tc.cloned || c.leaving != nil {
			t.Errorf("%s: clones %v, leaves %v", name, got, c.leaving != nil)
		}
		if c.at(seconds(60)); c.Status().Clones != nil {
			t.Errorf("%s: a node that is gone is still named", name)
		}
	}
	c := testCoreWith(t, CoreOptions{Volume: 9})
	hello := testHello("copy", 49)
	hello.Volume = 9
	if err := c.OnHello("", hello); err != nil || len(c.Status().Clones) != 1 {
		t.Fatalf("%v, clones %v after a hello", err, c.Status().Clones)
	}
}

// Who gives way to a node with its node_id and its data says that it runs on a copy.
func TestTwinOnACopiedVolumeSaysSo(t *testing.T) {
	for volume, copied := range map[uint64]bool{9: true, 8: false, 0: false} {
		c := testCoreWith(t, CoreOptions{Volume: 9})
		hello := &protocol.PeerHello{NodeID: "me", Instance: 49, Address: "twin:1", Started: coreWall - 1, Volume: volume}
		if err := c.OnHello("", hello); err != nil || c.leaving == nil {
			t.Fatalf("%v, leaves %v", err, c.leaving != nil)
		}
		if strings.Contains(c.leaving.why, "copy of its volume") != copied {
			t.Errorf("volume %d beside 9: %s", volume, c.leaving.why)
		}
	}
}
