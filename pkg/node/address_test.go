package node_test

import (
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"merklekv/pkg/config"
	"merklekv/pkg/internal/poll"
	"merklekv/pkg/replication"
)

// Two links to one broker have one client id and throw each other off.
func TestOneLinkForABrokerThatIsNamedTwice(t *testing.T) {
	first := testConfig("node1")
	first.Broker.Enabled = true
	address := start(t, first).ready().BrokerAddr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*config.Config){
		"in other words": func(c *config.Config) {
			c.MQTT.BrokerAddress = address
			c.MQTT.BrokerAddresses = []string{"tcp://" + address, "MQTT://" + address + "/", "localhost:" + port}
		},
		// It might be the in-process broker, by a name that only others use.
		"beside the in-process broker": func(c *config.Config) {
			c.Broker.Enabled, c.MQTT.BrokerAddresses = true, []string{address}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig("node2")
			change(&c)
			brokers := start(t, c).ready().Replication().Status().Brokers
			if len(brokers) != 1 || brokers[0].Address != address {
				t.Errorf("links to %+v, want one to %s", brokers, address)
			}
		})
	}
}

func TestPeerWithoutPortIsDialled(t *testing.T) {
	// An address of the loopback that nothing else on the machine binds.
	peer, err := net.Listen("tcp", net.JoinHostPort("127.78.78.1", strconv.Itoa(config.DefaultPeerPort)))
	if err != nil {
		t.Fatal(err)
	}
	dialled := make(chan struct{})
	go func() {
		defer close(dialled)
		if conn, err := peer.Accept(); err == nil {
			conn.Close()
		}
	}()
	defer func() { peer.Close(); <-dialled }()
	c := testConfig("node1")
	c.Broker.Enabled = true
	c.AntiEntropy.PeerList = []string{"127.78.78.1"}
	start(t, c)
	select {
	case <-dialled:
	case <-time.After(patience):
		t.Fatal("a peer whose address has no port is never dialled")
	}
}

func TestAdvertisedAddressWithoutPortHasTheBoundOne(t *testing.T) {
	c := testConfig("node1")
	c.Broker.Enabled = true
	c.Network.AdvertiseAddress = "127.0.0.1"
	first := start(t, c).ready()
	c = testConfig("node2")
	c.MQTT.BrokerAddress = first.BrokerAddr().String()
	second := start(t, c)
	poll.Until(t, patience, func() bool {
		return slices.ContainsFunc(second.Replication().Status().Peers, func(p replication.PeerStatus) bool {
			return p.NodeID == "node1" && p.Address == first.Addr().String()
		})
	}, "node2 knows where node1 is")
}
