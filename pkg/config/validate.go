package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"merklekv/pkg/internal/address"
)

// Validate returns an *Error with everything that is wrong, nil if nothing is.
// Port 0 is wrong here, since nobody could find such a node: whoever wants a
// free port (a test) sets it in a Config that Load has returned, and does not
// validate that.
func (c Config) Validate() error { return asError(c.problems(true)) }

// problems finds what is wrong. complete asks for what is required, too.
func (c Config) problems(complete bool) []Problem {
	var found []Problem
	values, defaults := flatten(c), flatten(Default())
	for _, key := range Keys() {
		for _, what := range key.faults(values[key.Name], defaults[key.Name]) {
			found = append(found, Problem{Key: key.Name, What: what})
		}
	}
	if complete {
		found = append(found, c.missing()...)
	}
	return append(found, c.contradictions()...)
}

// faults says what is wrong with a value of the key.
func (k Key) faults(value, standard any) []string {
	v := reflect.ValueOf(value)
	switch k.Kind {
	case Int:
		n := v.Int()
		switch {
		case k.OrZero && n == 0, k.Min <= n && n <= k.Max:
		case k.OrZero:
			return []string{fmt.Sprintf("%d is neither 0 nor between %d and %d%s", n, k.Min, k.Max, k.unitSuffix())}
		default:
			return []string{fmt.Sprintf("%d is not between %d and %d%s", n, k.Min, k.Max, k.unitSuffix())}
		}
	case String:
		if v.Len() == 0 {
			if reflect.ValueOf(standard).Len() > 0 {
				return []string{fmt.Sprintf("must not be empty; the default is %s", render(standard))}
			}
			return nil
		}
		return k.textFault(v.String(), k.shown(v.String(), "the value"))
	case List:
		var all []string
		for i := range v.Len() {
			entry := v.Index(i).String()
			name := k.shown(entry, fmt.Sprintf("entry %d", i+1))
			if entry == "" {
				all = append(all, fmt.Sprintf("entry %d is empty", i+1))
				continue
			}
			all = append(all, k.textFault(entry, name)...)
		}
		return all
	}
	return nil
}

func (k Key) textFault(value, name string) []string {
	if len(k.Choices) > 0 {
		for _, choice := range k.Choices {
			if value == choice {
				return nil
			}
		}
		return []string{fmt.Sprintf("%s is none of %s", name, strings.Join(k.Choices, ", "))}
	}
	if k.check == nil {
		return nil
	}
	if err := k.check(value); err != nil {
		return []string{fmt.Sprintf("%s %v", name, err)}
	}
	return nil
}

// longestShown bounds how much of a wrong value a message repeats.
const longestShown = 80

// shown is how a message names a value: by itself, unless that may hold what is
// nobody's business.
func (k Key) shown(value, instead string) string {
	if k.Secret || strings.Contains(value, "@") {
		return instead
	}
	if len(value) > longestShown {
		return fmt.Sprintf("%.*q...", longestShown, value)
	}
	return fmt.Sprintf("%q", value)
}

func (k Key) unitSuffix() string {
	if k.Unit == "" {
		return ""
	}
	return " " + k.Unit
}

func (c Config) missing() []Problem {
	var found []Problem
	if c.NodeID == "" {
		found = append(found, Problem{Key: "node_id",
			What: "is required; give the node a name in the file, in MERKLE_KV_NODE_ID or by --node-id"})
	}
	if c.MQTT.BrokerAddress == "" && len(c.MQTT.BrokerAddresses) == 0 && !c.Broker.Enabled {
		found = append(found, Problem{Key: "mqtt.broker_address",
			What: "is required, as in tcp://localhost:1883, unless broker.enabled is true"})
	}
	return found
}

// contradictions finds values that are valid alone but not together.
func (c Config) contradictions() []Problem {
	var found []Problem
	if c.MQTT.Password != "" && c.MQTT.Username == "" {
		found = append(found, Problem{Key: "mqtt.password", What: "needs mqtt.username, which is not given"})
	}
	names := make(map[string]bool, len(c.Broker.Users))
	for i, entry := range c.Broker.Users {
		user, _, _ := strings.Cut(entry.Reveal(), ":")
		if names[user] {
			found = append(found, Problem{Key: "broker.users",
				What: fmt.Sprintf("entry %d names a user who is there already", i+1)})
		}
		names[user] = true
	}
	found = append(found, c.Storage.contradictions()...)
	found = append(found, c.ownBroker()...)
	return append(found, c.sharedPorts()...)
}

// contradictions finds backups that cannot be made.
func (s Storage) contradictions() []Problem {
	const key = "storage.backup_dir"
	switch {
	case s.BackupDir == "":
		return nil
	case !s.PersistenceEnabled:
		return []Problem{{Key: key, What: "needs storage.persistence_enabled, which is false: " +
			"a backup is a copy of what is on disk; enable it, or leave backup_dir empty"}}
	case filepath.Clean(s.BackupDir) == filepath.Clean(s.DataDir):
		return []Problem{{Key: key, What: "is storage.data_dir too; backups need a directory of their own"}}
	}
	return nil
}

// ownBroker finds an in-process broker that would turn its own node away.
func (c Config) ownBroker() []Problem {
	accounts := c.Broker.Accounts()
	own, err := address.ParseBroker(Reach(c.Broker.BindAddress, c.Broker.BindPort))
	uses := err == nil && slices.ContainsFunc(c.MQTT.Brokers(), func(url string) bool {
		broker, err := address.ParseBroker(url)
		return err == nil && broker.Same(own)
	})
	if !c.Broker.Enabled || len(accounts) == 0 || !uses {
		return nil
	}
	if password, known := accounts[c.MQTT.Username]; known && password == c.MQTT.Password.Reveal() {
		return nil
	}
	return []Problem{{Key: "mqtt.username",
		What: "must with mqtt.password be one of broker.users, or this node cannot use its own broker"}}
}

// sharedPorts finds listeners that would be in each other's way.
func (c Config) sharedPorts() []Problem {
	type listener struct {
		key, address string
		port         int
	}
	listeners := []listener{
		{"network.bind_port", c.Network.BindAddress, c.Network.BindPort},
		{"admin.bind_port", c.Admin.BindAddress, c.Admin.BindPort},
	}
	if c.Broker.Enabled {
		listeners = append(listeners, listener{"broker.bind_port", c.Broker.BindAddress, c.Broker.BindPort})
	}
	var found []Problem
	for i, a := range listeners {
		for _, b := range listeners[:i] {
			if a.port == b.port && overlap(a.address, b.address) {
				found = append(found, Problem{Key: a.key,
					What: fmt.Sprintf("%d is the port of %s already", a.port, b.key)})
			}
		}
	}
	return found
}

// overlap reports whether listeners on both addresses compete for a port.
func overlap(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil {
		return false
	}
	return x == y || x.IsUnspecified() || y.IsUnspecified()
}
