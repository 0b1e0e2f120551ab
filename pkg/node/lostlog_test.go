package node_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"merklekv/pkg/internal/poll"
)

// fill writes n values of 1 KB, all on one connection, and returns when they are
// acknowledged.
func (r *running) fill(n int) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in, value := bufio.NewReader(conn), bytes.Repeat([]byte{'v'}, 1024)
	for first := 0; first < n; first += 100 {
		var requests []byte
		last := min(n, first+100)
		for i := first; i < last; i++ {
			requests = fmt.Appendf(requests, "SET fill%05d %s\r\n", i, value)
		}
		if _, err := conn.Write(requests); err != nil {
			r.t.Fatal(err)
		}
		for i := first; i < last; i++ {
			if line, err := in.ReadString('\n'); err != nil || line != "OK\r\n" {
				r.t.Fatalf("SET: %q, %v", line, err)
			}
		}
	}
}

// What a log has lost arrives wherever sessions are switched off: they are what
// would bring it else.
func TestLostLogIsCopiedWhereRepairIsDisabled(t *testing.T) {
	const writes = 4000 // four times what a log keeps
	for name, tc := range map[string]struct{ reader, writer bool }{
		"at both": {false, false}, "where it is missed": {false, true}, "where it was written": {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig("node1")
			c.Broker.Enabled, c.Replication.RingMB, c.AntiEntropy.Enabled = true, 1, tc.reader
			reader := start(t, c).ready()
			c = testConfig("node2")
			c.Replication.RingMB, c.AntiEntropy.Enabled = 1, tc.writer
			c.MQTT.BrokerAddress = reader.BrokerAddr().String()
			c.AntiEntropy.PeerList = []string{reader.Addr().String()}
			writer := start(t, c).ready()
			writer.do("SET before it")
			reader.shows("before", "it")
			if got := reader.do("REPLICATE disable"); got != "OK" {
				t.Fatal(got)
			}
			writer.fill(writes)
			if got := reader.do("DBSIZE"); got != "1" {
				t.Fatalf("the node that is paused has %s keys", got)
			}
			if got := reader.do("REPLICATE enable"); got != "OK" {
				t.Fatal(got)
			}
			got := ""
			poll.Until(t, patience, func() bool { got = reader.do("DBSIZE"); return got == fmt.Sprint(writes+1) }, "all to arrive")
			equal(t, reader, writer)
		})
	}
}
