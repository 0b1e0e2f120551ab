package address

import (
	"net"
	"strings"
	"testing"
)

func TestParseBroker(t *testing.T) {
	for in, want := range map[string]string{
		"h": "tcp://h:1883", "h:1": "tcp://h:1", "tcp://h": "tcp://h:1883", "MQTT://H:5/": "tcp://h:5",
		"ssl://h": "ssl://h:8883", "tls://h": "ssl://h:8883", "mqtts://h:01": "ssl://h:1",
		"[::1]": "tcp://[::1]:1883", "tcp://[0:0::1]:5": "tcp://[::1]:5", "127.0.0.1": "tcp://127.0.0.1:1883",
		"tcp://[fe80::1%25eth0]": "tcp://[fe80::1%25eth0]:1883", "broker_1.example.com:5": "tcp://broker_1.example.com:5",
	} {
		got, err := ParseBroker(in)
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", in, got, err, want)
			continue
		}
		if again, err := ParseBroker(got.String()); err != nil || again != got {
			t.Errorf("%s: read again it is %v, %v", in, again, err)
		}
		if _, port, err := net.SplitHostPort(got.Address()); err != nil || !strings.HasSuffix(want, ":"+port) {
			t.Errorf("%s: address %s", in, got.Address())
		}
	}
	for in, want := range map[string]string{
		"": "no host", "tcp://": "no host", ":1": "no host", "http://h": "tcp, mqtt, ssl, tls, mqtts",
		"ws://h": "none of", "wss://h/mqtt": "none of", "tcps://h": "none of", "mqtt+ssl://h": "none of",
		"h:1/path": "after the port", "h:1?q": "after the port", "h:1#f": "after the port",
		"h:0": "1 and 65535", "h:70000": "1 and 65535", "h:port": "not a URL", "a b": "not a URL", "tcp://%zz": "not a URL",
		"tcp://u:hunter2@h": "user name", "tcp://u:hunter2@h:x": "user name",
	} {
		_, err := ParseBroker(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the password is in the message: %v", in, err)
		}
	}
}

func TestSame(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"h", "mqtt://H:1883/", true}, {"h", "h:1884", false}, {"h", "ssl://h:1883", false}, {"h", "g", false},
		{"localhost", "127.0.0.1", true}, {"[::1]", "localhost:1883", true}, {"localhost", "127.0.0.2", false},
	} {
		a, errA := ParseBroker(tc.a)
		b, errB := ParseBroker(tc.b)
		if errA != nil || errB != nil || a.Same(b) != tc.want || b.Same(a) != tc.want {
			t.Errorf("%s and %s: %v, want %v (%v, %v)", tc.a, tc.b, a.Same(b), tc.want, errA, errB)
		}
	}
}

func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a:7", "B:1": "b:1", "::1": "[::1]:7", "[::1]": "[::1]:7", "[::1]:2": "[::1]:2", "10.0.0.1": "10.0.0.1:7",
	} {
		if got, err := HostPort(in, 7); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":1", "a:", "a:b", "a:0", "[::1", "1:2:3", strings.Repeat("x", 254), "a/b", "[::1]x:1", "a b"} {
		if got, err := HostPort(in, 7); err == nil {
			t.Errorf("%q gives %s", in, got)
		}
	}
}

func TestReach(t *testing.T) {
	for in, want := range map[string]string{
		"0.0.0.0": "127.0.0.1:5", "::": "[::1]:5", "10.0.0.1": "10.0.0.1:5", "::1": "[::1]:5",
	} {
		if got := Reach(in, 5); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestIsNodeID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "node-1.eu_west": true, strings.Repeat("x", MaxNodeID): true,
		"": false, strings.Repeat("x", MaxNodeID+1): false, "a b": false, "a/b": false, "ä": false,
	} {
		if IsNodeID(id) != want {
			t.Errorf("IsNodeID(%q) is not %v", id, want)
		}
	}
}
