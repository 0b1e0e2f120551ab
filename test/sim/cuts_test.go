package main

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// still is a cluster in which nothing happens by itself.
var still = &profile{
	name: "still", nodes: span[int]{3, 3}, chaos: span[time.Duration]{time.Second, time.Second},
	delay: span[time.Duration]{20 * time.Millisecond, 20 * time.Millisecond}, keys: span[int]{30, 30},
	rate: span[float64]{1, 1}, rings: long, skews: []int64{0}, every: span[time.Duration]{0, 0}, quiet: time.Second,
}

// ends of the six links of three nodes and a broker.
var links = [6][2]int{{0, 1}, {0, 2}, {1, 2}, {0, broker}, {1, broker}, {2, broker}}

// cutScript is what happens while links are cut.
type cutScript struct {
	name     string
	lossless bool // a broker that is reached passes everything on
	run      func(*world)
}

var cutScripts = []cutScript{
	{"writes", true, func(w *world) { w.writeAll(15) }},
	{"the broker comes back empty", false, func(w *world) {
		w.writeAll(5)
		w.net.stop(+1, true)
		w.runUntil(w.now+2*time.Second, w.wrong)
		w.writeAll(5)
		w.net.stop(-1, false)
	}},
	{"a node restarts", false, func(w *world) {
		w.writeAll(5)
		n := w.nodes[0]
		n.kill()
		w.runUntil(w.now+time.Second, w.wrong)
		n.boot()
		w.runUntil(w.now+8*time.Second, w.wrong)
		w.writeAll(5)
	}},
}

// healOrders are in which order links are joined again; missing ones stay away
// until the others are.
var healOrders = [][6]int{{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {3, 1, 5, 0, 4, 2}}

// writeAll has every node write.
func (w *world) writeAll(n int) {
	for _, node := range w.nodes {
		for range n {
			node.operate()
		}
		node.publishSoon()
	}
}

// together returns for each node the least node that must come to hold the same:
// those that have a path to each other by links between nodes, and all at the
// broker when everybody is there and it lost nothing. What a node that is not at
// the broker made does not go from its neighbour to those that nothing but the
// broker reaches, nor can they fetch what a message missed.
func (w *world) together(lossless bool) []int {
	group := []int{0, 1, 2}
	all := lossless
	for i := range w.nodes {
		all = all && w.net.joined(i, broker)
	}
	for range links {
		for _, l := range links {
			if l[1] != broker && (all || w.net.joined(l[0], l[1])) {
				least := min(group[l[0]], group[l[1]])
				group[l[0]], group[l[1]] = least, least
			}
		}
	}
	return group
}

// apart says which nodes have a path to each other and do not hold the same, ""
// if none.
func (w *world) apart(lossless bool) string {
	group := w.together(lossless)
	for i, a := range w.nodes {
		for _, b := range w.nodes[i+1:] {
			if group[a.id] != group[b.id] {
				continue
			}
			if why := difference(withoutKilled(sortedDump(a.store)), withoutKilled(sortedDump(b.store))); why != "" {
				return fmt.Sprintf("nodes %d and %d have a path: %s", a.id, b.id, why)
			}
		}
	}
	return ""
}

// cutRun runs one pattern of cuts, and returns what is wrong, "" if nothing.
func cutRun(pattern int, script *cutScript, order [6]int) string {
	w := newWorld(uint64(pattern)+1, still, nil)
	defer w.close()
	w.net.calm = true
	for _, n := range w.nodes {
		n.disk = newDisk(instant, w.time)
		n.boot()
	}
	w.after(checkEvery, w.check)
	w.runUntil(2*time.Second, w.wrong)
	w.writeAll(10)
	w.runUntil(4*time.Second, w.wrong)
	for i, l := range links {
		if pattern&(1<<i) != 0 {
			w.net.sever(l[0], l[1], +1)
		}
	}
	w.runUntil(w.now+time.Second, w.wrong)
	script.run(w)
	for limit := w.now + 25*time.Second; !w.wrong() && w.apart(script.lossless) != ""; {
		w.runUntil(w.now+500*time.Millisecond, w.wrong)
		if w.now > limit {
			w.fail("cut for %v: %s", 25*time.Second, w.apart(script.lossless))
		}
	}
	for _, i := range order {
		if pattern&(1<<i) != 0 {
			w.net.sever(links[i][0], links[i][1], -1)
			w.runUntil(w.now+700*time.Millisecond, w.wrong)
		}
	}
	w.calm = true
	w.end()
	return w.broken
}

// Whatever of the six links of three nodes and a broker is cut, nodes with a live
// path to each other become equal, with the broker or without it, and all do once the links are back, in
// whichever order.
func TestCuts(t *testing.T) {
	orders := healOrders
	if testing.Short() {
		orders = orders[:1]
	}
	for i := range cutScripts {
		script := &cutScripts[i]
		t.Run(script.name, func(t *testing.T) {
			for pattern := range 1 << len(links) {
				for _, order := range orders {
					if why := cutRun(pattern, script, order); why != "" {
						t.Errorf("links cut %06b, joined again in order %v: %s", pattern, order, why)
					}
				}
			}
		})
	}
}

func TestTogether(t *testing.T) {
	for name, c := range map[string]struct {
		joined [][2]int
		want   []int
	}{
		"nothing":                      {nil, []int{0, 1, 2}},
		"two at the broker":            {[][2]int{{0, broker}, {2, broker}}, []int{0, 1, 2}},
		"all at the broker":            {[][2]int{{0, broker}, {1, broker}, {2, broker}}, []int{0, 0, 0}},
		"two by their link":            {[][2]int{{1, 2}}, []int{0, 1, 1}},
		"a chain":                      {[][2]int{{1, 2}, {0, 2}}, []int{0, 0, 0}},
		"one at the broker of another": {[][2]int{{1, 2}, {2, broker}, {0, broker}}, []int{0, 1, 1}},
	} {
		w := newWorld(1, still, nil)
		for _, l := range links {
			if !slices.Contains(c.joined, l) {
				w.net.cut[l[0]][l[1]], w.net.cut[l[1]][l[0]] = 1, 1
			}
		}
		if got := w.together(true); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
