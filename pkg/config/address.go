package config

import (
	"fmt"
	"net/netip"
	"slices"

	"merklekv/pkg/internal/address"
)

// DefaultPeerPort is the port of a peer whose address names none.
const DefaultPeerPort = 7878

// Brokers returns the URLs of all brokers, with scheme and port, each broker
// once however often and in whatever spelling it is given. Addresses that do not
// validate are left out.
func (m MQTT) Brokers() []string {
	var known []address.Broker
	var urls []string
	for _, given := range append([]string{m.BrokerAddress}, m.BrokerAddresses...) {
		if given == "" {
			continue
		}
		broker, err := address.ParseBroker(given)
		if err != nil || slices.ContainsFunc(known, broker.Same) {
			continue
		}
		known = append(known, broker)
		urls = append(urls, broker.String())
	}
	return urls
}

// Peers returns the addresses of PeerList, each once, all with a port. Those
// that do not validate are left out.
func (a AntiEntropy) Peers() []string {
	var peers []string
	for _, entry := range a.PeerList {
		peer, err := address.HostPort(entry, DefaultPeerPort)
		if err == nil && !slices.Contains(peers, peer) {
			peers = append(peers, peer)
		}
	}
	return peers
}

// Advertised returns the host:port at which other nodes reach this one, whose
// client port is bound to port.
func (n Network) Advertised(port int) string {
	if advertised, err := address.HostPort(n.AdvertiseAddress, port); err == nil {
		return advertised
	}
	return Reach(n.BindAddress, port)
}

// hidden reports whether other machines may connect to this node but are told
// an address at which each finds only itself.
func (n Network) hidden() bool {
	ip, err := netip.ParseAddr(n.BindAddress)
	return err == nil && ip.IsUnspecified() && n.AdvertiseAddress == ""
}

// Reach returns the host:port at which a listener on this machine is reached
// from this machine: an unspecified address becomes the loopback one.
func Reach(bindAddress string, port int) string { return address.Reach(bindAddress, port) }

// PeerAddress returns the host:port of a node that somebody named as peer_list
// does: without a port it is DefaultPeerPort.
func PeerAddress(given string) (string, error) {
	peer, err := address.HostPort(given, DefaultPeerPort)
	if err != nil {
		return "", fmt.Errorf("%q %w", given, err)
	}
	return peer, nil
}
