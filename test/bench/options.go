package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// options are what the command line says.
type options struct {
	given     string        // merklekv to be measured, empty: build it
	addr      string        // load: the server
	resp      bool          // load: it speaks RESP
	get       bool          // load: GET instead of SET
	conns     int           // connections of a closed loop
	pipelines []int         // requests a connection sends at once
	keys      int           // size of the key space
	valueSize int           // bytes
	requests  int           // of one load; 0: by time only
	duration  time.Duration // of one run
	runs      int           // of each server and cell
	loadKeys  int           // memory: keys to be loaded
	rate      int           // latency: writes a second
	total     int           // sustain: writes a second, of all nodes together
	sustain   time.Duration // sustain: how long
	processes bool          // sustain: nodes as processes instead of in this one
	self      bool          // Redis in the place of MerkleKV: what the generator itself adds
	check     bool          // a missed bound is a failure
}

const usage = `bench measures MerkleKV, beside Redis where that is installed.

  go run ./test/bench [flags] [SCENARIO...]

  redis      SET and GET of one node and of Redis, interleaved
  memory     resident bytes a key of one node and of Redis
  index      bytes and time of the Merkle index
  durable    SET with data on disk, one node and Redis, interleaved
  start      until what is on disk is served, one node and Redis, interleaved
  disk       bytes on disk after ten overwrites of every key
  latency    write on node1 until visible on node3
  sustain    many writes into three nodes, then gaps, dumps and lag
  all        all of these; also when none is named
  load       closed-loop load against a server that already runs
  up         from no container until all are healthy; needs the images

Flags:
`

// parseOptions returns the options and the scenarios to be run.
func parseOptions(args []string, errOut io.Writer) (options, []string, error) {
	var o options
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.SetOutput(errOut)
	f.Usage = func() { fmt.Fprint(errOut, usage, f.FlagUsages()) }
	f.StringVar(&o.given, "bin", "", "merklekv program to be measured (default: one built now)")
	f.StringVar(&o.addr, "addr", "", "load: server, an IPv4 loopback address; it is written to")
	f.BoolVar(&o.resp, "resp", false, "load: the server speaks RESP")
	f.BoolVar(&o.get, "get", false, "load: GET, of keys that were SET before")
	f.IntVar(&o.conns, "conns", 50, "connections of a closed loop")
	f.IntSliceVar(&o.pipelines, "pipeline", []int{1, 16, 64}, "requests sent at once on a connection")
	f.IntVar(&o.keys, "keys", 100_000, "keys that a load touches")
	f.IntVar(&o.valueSize, "value-size", 64, "bytes of a value, at least 16")
	f.IntVar(&o.requests, "requests", 0, "requests of one run (0: as many as fit into its time)")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "time of one run")
	f.IntVar(&o.runs, "runs", 5, "redis, durable, start: runs of each server and cell")
	f.IntVar(&o.loadKeys, "load-keys", 1_000_000, "memory, index, start, disk: keys to be loaded")
	f.IntVar(&o.rate, "rate", 1000, "latency: writes a second")
	f.IntVar(&o.total, "total", 100_000, "sustain: writes a second, all nodes together")
	f.DurationVar(&o.sustain, "sustain", time.Minute, "latency and sustain: time of the load")
	f.BoolVar(&o.processes, "processes", false, "sustain: each node a process of its own, and the broker too")
	f.BoolVar(&o.self, "self", false, "redis, memory: a second Redis in the place of MerkleKV (ratio must be about 1)")
	f.BoolVar(&o.check, "check", false, "fail when a figure misses its bound")
	if err := f.Parse(args); err != nil {
		return o, nil, err
	}
	names, err := scenarioNames(f.Args())
	if slices.Contains(names, "load") && o.addr == "" {
		err = errors.Join(err, errors.New("load writes into a server that it did not start: name it with --addr"))
	}
	return o, names, errors.Join(err, o.validate())
}

// scenarioNames resolves "all", which is also what no name means, and refuses
// what there is not.
func scenarioNames(args []string) ([]string, error) {
	if len(args) == 0 {
		args = []string{"all"}
	}
	var names []string
	for _, arg := range args {
		known := false
		for _, s := range scenarios {
			if s.name == arg || arg == "all" && s.name != "load" && s.name != "up" {
				names = append(names, s.name)
				known = true
			}
		}
		if !known {
			return nil, fmt.Errorf("there is no scenario %q", arg)
		}
	}
	return names, nil
}

// validate reports every number that makes no sense or would not end.
func (o options) validate() error {
	var problems []error
	within := func(name string, value, low, high int) {
		if value < low || value > high {
			problems = append(problems, fmt.Errorf("--%s is %d, must be %d to %d", name, value, low, high))
		}
	}
	within("conns", o.conns, 1, 10_000)
	within("keys", o.keys, 1, 100_000_000)
	within("value-size", o.valueSize, keyLen, maxLine/2)
	within("requests", o.requests, 0, 1_000_000_000)
	within("runs", o.runs, 1, 1000)
	within("load-keys", o.loadKeys, 1000, 100_000_000)
	within("rate", o.rate, 1, 10_000)
	within("total", o.total, 1, 10_000_000)
	for _, p := range o.pipelines {
		within("pipeline", p, 1, 1024)
	}
	if len(o.pipelines) == 0 {
		problems = append(problems, errors.New("--pipeline is empty"))
	}
	if o.duration <= 0 || o.duration > time.Hour || o.sustain <= 0 || o.sustain > 24*time.Hour {
		problems = append(problems, errors.New("--duration must be up to 1h, --sustain up to 24h, both above 0"))
	}
	return errors.Join(problems...)
}
