package mqttlink

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// endpoint is where a broker listens.
type endpoint struct {
	addr string // host:port, resolved anew at every dial
	host string
	tls  bool
}

// parseBroker reads what Options.BrokerURL allows.
func parseBroker(s string) (endpoint, error) {
	if s == "" {
		return endpoint{}, errors.New("broker address is empty")
	}
	if !strings.Contains(s, "://") {
		s = "tcp://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		// The error of package url quotes the text, which may hold a password.
		return endpoint{}, errors.New("broker address is no host:port and no URL")
	}
	if u.User != nil {
		return endpoint{}, errors.New("broker address holds a user: give user name and password separately")
	}
	if u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, fmt.Errorf("broker address %q is not [scheme://]host:port", s)
	}
	e := endpoint{host: u.Hostname()}
	port := u.Port()
	switch strings.ToLower(u.Scheme) {
	case "tcp", "mqtt":
		port = orDefault(port, "1883")
	case "ssl", "tls", "mqtts":
		e.tls = true
		port = orDefault(port, "8883")
	default:
		return endpoint{}, fmt.Errorf("broker address %q: scheme %q is none of tcp, mqtt, ssl, tls, mqtts", s, u.Scheme)
	}
	e.addr = net.JoinHostPort(e.host, port)
	return e, nil
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
