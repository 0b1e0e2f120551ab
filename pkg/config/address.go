package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPeerPort is the port of a peer whose address names none.
const DefaultPeerPort = 7878

// brokerPorts are the schemes of a broker's address, each with the port that is
// meant when none is given.
var brokerPorts = map[string]string{
	"tcp": "1883", "mqtt": "1883",
	"ssl": "8883", "tls": "8883", "mqtts": "8883", "mqtt+ssl": "8883", "tcps": "8883",
	"ws": "80", "wss": "443",
}

// Brokers returns the URLs of all brokers, each once, with scheme and port.
// Addresses that do not validate are left out.
func (m MQTT) Brokers() []string {
	var urls []string
	seen := make(map[string]bool)
	for _, address := range append([]string{m.BrokerAddress}, m.BrokerAddresses...) {
		if address == "" {
			continue
		}
		u, err := parseBroker(address)
		if err != nil || seen[u.String()] {
			continue
		}
		seen[u.String()] = true
		urls = append(urls, u.String())
	}
	return urls
}

// Peers returns the addresses of PeerList, each once, all with a port.
func (a AntiEntropy) Peers() []string {
	var peers []string
	seen := make(map[string]bool)
	for _, entry := range a.PeerList {
		host, port, err := splitHostPort(entry, strconv.Itoa(DefaultPeerPort))
		if err != nil {
			continue
		}
		if address := net.JoinHostPort(host, port); !seen[address] {
			seen[address] = true
			peers = append(peers, address)
		}
	}
	return peers
}

// parseBroker reads scheme://host:port, where scheme and port may be missing.
func parseBroker(address string) (*url.URL, error) {
	if strings.Contains(address, "@") {
		return nil, errors.New("holds a user name; put it into mqtt.username and mqtt.password")
	}
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("is not a URL; write it as tcp://host:1883")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	defaultPort, known := brokerPorts[u.Scheme]
	if !known {
		return nil, errors.New("has a scheme that is none of tcp, mqtt, ssl, tls, mqtts, ws, wss")
	}
	host, port, err := splitHostPort(u.Host, defaultPort)
	if err != nil {
		return nil, err
	}
	if websocket := strings.HasPrefix(u.Scheme, "ws"); !websocket && strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("has something after the port; write it as tcp://host:1883")
	} else if !websocket {
		u.Path = ""
	}
	u.Host = net.JoinHostPort(host, port)
	return u, nil
}

// splitHostPort reads host, host:port, an IP address, or [IPv6]:port.
func splitHostPort(address, defaultPort string) (host, port string, err error) {
	host, port = address, defaultPort
	switch {
	case strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]"):
		host = address[1 : len(address)-1]
	case strings.Count(address, ":") == 1 || strings.HasPrefix(address, "["):
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", "", errors.New("is not an address; write it as host:port")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("has a port that is not between 1 and 65535")
	}
	if err := checkHost(host); err != nil {
		return "", "", err
	}
	return host, port, nil
}

// checkHost accepts an IP address or a host name. Underscores occur in the
// names of services.
func checkHost(host string) error {
	if host == "" {
		return errors.New("has no host; write it as host:port")
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return errors.New("is neither host:port nor an IPv6 address")
		}
		return nil
	}
	if len(host) > 253 {
		return errors.New("has a host name of more than 253 characters")
	}
	for _, r := range host {
		if !isNameChar(r) {
			return fmt.Errorf("has %q in its host name", r)
		}
	}
	return nil
}

// isNameChar holds for the characters of host names and node names.
func isNameChar(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r == '.' || r == '_' || r == '-'
}

// Reach returns the host:port at which a listener on this machine is reached
// from this machine: an unspecified address becomes the loopback one.
func Reach(bindAddress string, port int) string {
	if ip, err := netip.ParseAddr(bindAddress); err == nil && ip.IsUnspecified() {
		bindAddress = "127.0.0.1"
		if ip.Is6() {
			bindAddress = "::1"
		}
	}
	return net.JoinHostPort(bindAddress, strconv.Itoa(port))
}
