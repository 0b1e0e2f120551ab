package main

import "time"

var long = []int64{16 << 20}

// profiles lists the kinds of runs, the default first.
var profiles = []*profile{
	{
		name: "mixed", about: "loss, duplicates, cuts, crashes, pauses, a broker that comes and goes",
		nodes: span[int]{3, 5}, chaos: span[time.Duration]{6 * time.Second, 14 * time.Second},
		loss: span[float64]{0, 0.3}, dup: span[float64]{0, 0.5}, breaks: span[float64]{0, 0.05},
		delay: span[time.Duration]{time.Millisecond, 5 * time.Second}, rate: span[float64]{4, 16},
		writers: span[int]{1, 2}, keys: span[int]{20, 250}, rings: []int64{2 << 10, 32 << 10, 16 << 20},
		skews:   []int64{0, 500, 2000},
		keeping: []policy{instant, always, interval, never},
		faults: []weighted{
			{cutLink, 6}, {isolate, 3}, {stopBroker, 3}, {pauseNode, 3}, {crash, 3}, {burst, 3}, {jumpClock, 1}, {freezeClock, 1},
			{blackout, 1}, {failDisk, 1},
		},
		every: span[time.Duration]{100 * time.Millisecond, 3 * time.Second}, quiet: 2 * time.Second,
	},
	{
		name: "quiet", about: "no faults and no loss: no root ever differs, and no session runs",
		nodes: span[int]{3, 5}, chaos: span[time.Duration]{6 * time.Second, 9 * time.Second},
		delay: span[time.Duration]{time.Millisecond, 120 * time.Millisecond}, ordered: true,
		rate: span[float64]{10, 50}, writers: span[int]{1, 2}, keys: span[int]{20, 250}, rings: long,
		skews: []int64{0, 50}, quiet: 2 * time.Second, exact: true, strict: true,
	},
	{
		name: "lossy", about: "messages are lost, repeated and overtake each other, and all is fetched again in time: no root ever differs",
		nodes: span[int]{3, 5}, chaos: span[time.Duration]{6 * time.Second, 9 * time.Second},
		loss: span[float64]{0.02, 0.3}, dup: span[float64]{0, 0.5},
		delay: span[time.Duration]{time.Millisecond, 400 * time.Millisecond}, rate: span[float64]{5, 25},
		writers: span[int]{1, 2}, keys: span[int]{20, 250}, rings: long, skews: []int64{0, 50, 500},
		quiet: 2 * time.Second, exact: true,
	},
	{
		name: "busy", about: "ten writers a node and sessions all the time, over links that break",
		nodes: span[int]{3, 3}, chaos: span[time.Duration]{4 * time.Second, 6 * time.Second},
		loss: span[float64]{0.05, 0.3}, dup: span[float64]{0, 0.3}, breaks: span[float64]{0, 0.03},
		delay: span[time.Duration]{time.Millisecond, 800 * time.Millisecond}, rate: span[float64]{4, 8},
		writers: span[int]{10, 10}, keys: span[int]{30, 150}, rings: []int64{4 << 10, 16 << 20}, skews: []int64{0, 500},
		faults: []weighted{{cutLink, 2}, {isolate, 1}, {stopBroker, 1}},
		every:  span[time.Duration]{500 * time.Millisecond, 2 * time.Second}, quiet: 2 * time.Second, always: true,
	},
	{
		name: "clocks", about: "clocks jump and stand still, the broker comes and goes, all is fetched in time: no root ever differs",
		nodes: span[int]{3, 3}, chaos: span[time.Duration]{6 * time.Second, 10 * time.Second},
		delay: span[time.Duration]{time.Millisecond, 120 * time.Millisecond}, ordered: true,
		rate: span[float64]{2, 15}, writers: span[int]{1, 1}, keys: span[int]{10, 100}, rings: long,
		skews:  []int64{0, 200, 1500},
		faults: []weighted{{slipClock, 4}, {freezeClock, 4}, {stopBroker, 2}}, every: span[time.Duration]{50 * time.Millisecond, time.Second},
		quiet: 2 * time.Second, exact: true,
	},
	{
		name: "skewed", about: "clocks that are wrong, jump and stand still, on nodes that are cut off at times",
		nodes: span[int]{3, 4}, chaos: span[time.Duration]{6 * time.Second, 14 * time.Second},
		loss: span[float64]{0, 0.1}, dup: span[float64]{0, 0.2}, breaks: span[float64]{0, 0.02},
		delay: span[time.Duration]{time.Millisecond, 500 * time.Millisecond}, rate: span[float64]{5, 30},
		writers: span[int]{1, 1}, keys: span[int]{20, 100}, rings: []int64{2 << 10, 16 << 20},
		skews:   []int64{0, 0, 0, 0, 1000, 1000, 5000, 5000, 30_000, 60_000, 180_000, 3_600_000},
		keeping: []policy{instant, always, interval, never},
		faults: []weighted{
			{jumpClock, 4}, {freezeClock, 4}, {isolate, 4}, {cutLink, 2}, {crash, 2}, {burst, 1},
		},
		every: span[time.Duration]{100 * time.Millisecond, 2 * time.Second}, quiet: 10 * time.Second,
	},
	{
		name: "short", about: "logs so short that only sessions fill the gaps",
		nodes: span[int]{3, 4}, chaos: span[time.Duration]{6 * time.Second, 12 * time.Second},
		loss: span[float64]{0.05, 0.3}, dup: span[float64]{0, 0.2}, breaks: span[float64]{0, 0.05},
		delay: span[time.Duration]{time.Millisecond, 300 * time.Millisecond}, rate: span[float64]{10, 40},
		writers: span[int]{1, 1}, keys: span[int]{50, 250}, rings: []int64{512, 1 << 10},
		skews:   []int64{0, 500},
		keeping: []policy{instant, always, interval, never},
		faults: []weighted{
			{cutLink, 4}, {isolate, 4}, {stopBroker, 2}, {pauseNode, 2}, {crash, 2}, {burst, 4},
		},
		every: span[time.Duration]{100 * time.Millisecond, 2 * time.Second}, quiet: 2 * time.Second,
	},
	{
		name: "power", about: "disks that keep what was forced to them, and nodes that are stopped, killed and cut from power, one or all",
		nodes: span[int]{3, 4}, chaos: span[time.Duration]{6 * time.Second, 14 * time.Second},
		loss: span[float64]{0, 0.1}, dup: span[float64]{0, 0.2}, breaks: span[float64]{0, 0.02},
		delay: span[time.Duration]{time.Millisecond, 500 * time.Millisecond}, rate: span[float64]{5, 25},
		writers: span[int]{1, 3}, keys: span[int]{20, 150}, rings: []int64{1 << 10, 32 << 10, 16 << 20},
		skews: []int64{0, 500, 5000, 60_000}, disks: true, keeping: []policy{always, always, interval, never},
		faults: []weighted{
			{crash, 8}, {blackout, 3}, {failDisk, 3}, {isolate, 3}, {cutLink, 2}, {burst, 3}, {jumpClock, 1}, {stopBroker, 1},
		},
		every: span[time.Duration]{100 * time.Millisecond, 2 * time.Second}, quiet: 2 * time.Second,
	},
}
