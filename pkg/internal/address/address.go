// Package address reads the addresses that people write into a configuration.
// Whatever takes one (the configuration's checks, the link to a broker, the node)
// takes it from here, so that none accepts what another one cannot use.
//
//	broker  [scheme://]host[:port][/]   tcp, mqtt: 1883; ssl, tls, mqtts: 8883, with TLS
//	peer    host[:port]                 the port that the caller names
//
// A host is a name, an IPv4 address, or an IPv6 address, in brackets when a port
// follows. Errors are ends of a sentence that begins with the address, and repeat
// nothing of it, because a password may stand in it.
package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// plain and secure are the schemes of a broker's address, the first of each
// being the one that Broker.String writes.
var (
	plain  = []string{"tcp", "mqtt"}
	secure = []string{"ssl", "tls", "mqtts"}
)

// Broker is where an MQTT broker listens.
type Broker struct {
	Host string // a name in lower case, or an IP address in its shortest form
	Port string // from 1 to 65535
	TLS  bool
}

// Address returns host:port.
func (b Broker) Address() string { return net.JoinHostPort(b.Host, b.Port) }

// String returns the URL, which is the same for all spellings of one address.
func (b Broker) String() string {
	u := url.URL{Scheme: plain[0], Host: b.Address()}
	if b.TLS {
		u.Scheme = secure[0]
	}
	return u.String()
}

// Same reports whether a and b are one broker: all names of the loopback
// interface stand for the same machine.
func (b Broker) Same(a Broker) bool {
	return a == b || a.Port == b.Port && a.TLS == b.TLS && isLoopback(a.Host) && isLoopback(b.Host)
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// ParseBroker reads the address of a broker.
func ParseBroker(s string) (Broker, error) {
	if strings.Contains(s, "@") {
		return Broker{}, errors.New("holds a user name; put it into mqtt.username and mqtt.password")
	}
	if !strings.Contains(s, "://") {
		s = plain[0] + "://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Broker{}, errors.New("is not a URL; write it as tcp://host:1883")
	}
	b := Broker{Port: "1883"}
	switch scheme := strings.ToLower(u.Scheme); {
	case slices.Contains(plain, scheme):
	case slices.Contains(secure, scheme):
		b.Port, b.TLS = "8883", true
	default:
		return Broker{}, fmt.Errorf("has a scheme that is none of %s, %s",
			strings.Join(plain, ", "), strings.Join(secure, ", "))
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return Broker{}, errors.New("has something after the port; write it as tcp://host:1883")
	}
	if b.Host, b.Port, err = split(u.Host, b.Port); err != nil {
		return Broker{}, err
	}
	return b, nil
}

// HostPort reads the address of a peer and returns it with a port, the default
// one if it has none.
func HostPort(s string, defaultPort int) (string, error) {
	host, port, err := split(s, strconv.Itoa(defaultPort))
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// split reads host, host:port, an IP address, or [IPv6]:port.
func split(s, defaultPort string) (host, port string, err error) {
	host, port = s, defaultPort
	switch {
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case strings.Count(s, ":") == 1 || strings.HasPrefix(s, "["):
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", "", errors.New("is not an address; write it as host:port")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", "", errors.New("has a port that is not between 1 and 65535")
	}
	if host, err = normal(host); err != nil {
		return "", "", err
	}
	return host, strconv.FormatUint(n, 10), nil
}

// normal returns the one spelling of an IP address or a host name.
func normal(host string) (string, error) {
	if host == "" {
		return "", errors.New("has no host; write it as host:port")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), nil
	}
	if strings.Contains(host, ":") {
		return "", errors.New("is neither host:port nor an IPv6 address")
	}
	if len(host) > 253 {
		return "", errors.New("has a host name of more than 253 characters")
	}
	for _, r := range host {
		if !IsNameChar(r) {
			return "", fmt.Errorf("has %q in its host name", r)
		}
	}
	return strings.ToLower(host), nil
}

// IsNameChar holds for the characters of host names; underscores occur in the
// names of services.
func IsNameChar(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r == '.' || r == '_' || r == '-'
}

// MaxNodeID is the greatest length of a node_id, in bytes.
const MaxNodeID = 64

// IsNodeID reports whether s is a node_id: 1 to 64 of A-Z a-z 0-9 . _ -
func IsNodeID(s string) bool {
	return len(s) >= 1 && len(s) <= MaxNodeID &&
		!strings.ContainsFunc(s, func(r rune) bool { return !IsNameChar(r) })
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
