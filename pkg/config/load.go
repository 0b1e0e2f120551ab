package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"merklekv/pkg/internal/address"
)

// Sources are where a configuration comes from, beside the defaults.
type Sources struct {
	// File is the path of a TOML file; empty is none.
	File string
	// Environ are NAME=value pairs as os.Environ gives them.
	Environ []string
	// Flags were made by AddFlags; only those that were given count. Others in
	// the set are left alone. May be nil.
	Flags *pflag.FlagSet
	// HostName names the node of the embedded default; empty asks the system.
	HostName string
	// Partial asks for nothing that is required. It is for commands that use
	// only a part of the configuration.
	Partial bool
}

// Layer is one of the layers that a configuration is made of.
type Layer string

// The layers, each over the one before it.
const (
	FromDefault Layer = "default"
	FromFile    Layer = "file"
	FromEnv     Layer = "env"
	FromFlag    Layer = "flag"
)

// Origin says where a key's value comes from.
type Origin struct {
	Layer Layer
	Where string // file, variable or flag; of a default, what it was derived from
	Line  int    // in the file, from 1
}

// String returns the origin for people.
func (o Origin) String() string {
	switch {
	case o.Layer == FromFile:
		return fmt.Sprintf("%s:%d", o.Where, o.Line)
	case o.Layer == FromDefault && o.Where == "", o.Layer == "":
		return string(FromDefault)
	case o.Layer == FromDefault:
		return fmt.Sprintf("%s (%s)", FromDefault, o.Where)
	default:
		return fmt.Sprintf("%s %s", o.Layer, o.Where)
	}
}

// Loaded is a configuration and the story of how it came about.
type Loaded struct {
	Config   Config
	Origins  map[string]Origin // of every key
	Notices  []string          // what its user should be told, each one line
	Embedded bool              // nothing was said about a broker, so the node runs its own

	files state // as they were before they were read
}

// loader collects layers.
type loader struct {
	src      Sources
	keys     map[string]Key
	values   *koanf.Koanf
	origins  map[string]Origin
	problems []Problem
	refused  map[string]bool // keys that were given a value that could not be taken
	unread   bool            // there is a file, and nobody knows what it says
}

// Load makes a configuration of the defaults and the sources, each over the one
// before. The error is an *Error with everything that is wrong.
func Load(src Sources) (*Loaded, error) {
	l := newLoader(src)
	files := src.stat()
	l.readFile()
	l.readEnviron()
	l.readFlags()
	loaded, err := l.finish()
	if err != nil {
		return nil, err
	}
	loaded.files = files
	return loaded, nil
}

// newLoader returns a loader that has the defaults.
func newLoader(src Sources) *loader {
	l := &loader{
		src: src, keys: lookup(), values: koanf.New("."),
		origins: make(map[string]Origin), refused: make(map[string]bool),
	}
	l.put(flatten(Default()))
	return l
}

// put lays values, which have been checked for their types, over what is there.
func (l *loader) put(values map[string]any) {
	if err := l.values.Load(confmap.Provider(values, "."), nil); err != nil {
		l.problems = append(l.problems, Problem{What: err.Error()})
	}
}

// refuse notes a value that cannot be taken.
func (l *loader) refuse(p Problem) {
	l.problems = append(l.problems, p)
	if p.Key != "" {
		l.refused[p.Key] = true
	}
}

// finish derives what was not said and checks the whole.
func (l *loader) finish() (*Loaded, error) {
	loaded := &Loaded{Origins: l.origins}
	if err := decode(l.values, &loaded.Config); err != nil {
		l.problems = append(l.problems, Problem{What: err.Error()})
		return nil, asError(l.problems)
	}
	l.embed(loaded)
	l.derive(loaded)
	for _, p := range loaded.Config.problems(!l.src.Partial && !l.unread) {
		if !l.refused[p.Key] {
			l.problems = append(l.problems, l.located(p))
		}
	}
	if err := asError(l.problems); err != nil {
		return nil, err
	}
	loaded.Notices = notices(loaded, !l.src.Partial)
	return loaded, nil
}

// located says where the value came from that a problem is about.
func (l *loader) located(p Problem) Problem {
	origin := l.origins[p.Key]
	p.Where, p.Line = origin.Where, origin.Line
	if origin.Layer == FromDefault || origin.Layer == "" {
		p.Where = l.src.File
	}
	return p
}

// decode fills a Config. The layers have made sure of names and types; this
// makes sure that a key which the Config lacks does not pass in silence.
func decode(values *koanf.Koanf, into *Config) error {
	return values.UnmarshalWithConf("", into, koanf.UnmarshalConf{
		DecoderConfig: &mapstructure.DecoderConfig{TagName: "koanf", ErrorUnused: true},
	})
}

// given reports whether a layer above the defaults said something about a key
// of one of the sections, acceptable or not.
func (l *loader) given(sections ...string) bool {
	for name, key := range l.keys {
		said := l.refused[name] || l.origins[name].Layer != ""
		if said && slices.Contains(sections, key.Section()) {
			return true
		}
	}
	return false
}

// adminPortOffset lies between the client port and the admin port that is
// derived from it.
const adminPortOffset = 2000

// embed makes a node that was told nothing about a broker run its own.
func (l *loader) embed(loaded *Loaded) {
	if l.src.Partial || l.src.File != "" || l.given("mqtt", "broker") {
		return
	}
	c := &loaded.Config
	loaded.Embedded = true
	c.Broker.Enabled = true
	l.origins["broker.enabled"] = Origin{Layer: FromDefault, Where: "no broker given"}
	if c.NodeID != "" || l.refused["node_id"] {
		return
	}
	c.NodeID = l.hostName()
	l.origins["node_id"] = Origin{Layer: FromDefault, Where: "host name"}
}

// hostName returns the host's name in the characters of a node name.
func (l *loader) hostName() string {
	name := l.src.HostName
	if name == "" {
		name, _ = os.Hostname() // a host without a name gets the one below
	}
	name = strings.Map(func(r rune) rune {
		if address.IsNameChar(r) {
			return r
		}
		return '-'
	}, name)
	if name == "" {
		return "merklekv"
	}
	return name[:min(len(name), address.MaxNodeID)]
}

// derive sets what follows from other keys and was not said. An empty text says
// nothing.
func (l *loader) derive(loaded *Loaded) {
	c := &loaded.Config
	if key := "admin.bind_port"; l.origins[key].Layer == "" && !l.refused[key] {
		c.Admin.BindPort = c.Network.BindPort + adminPortOffset
		l.origins[key] = Origin{Layer: FromDefault, Where: "network.bind_port + 2000"}
	}
	if c.MQTT.ClientID == "" && c.NodeID != "" {
		c.MQTT.ClientID = c.NodeID
		l.origins["mqtt.client_id"] = Origin{Layer: FromDefault, Where: "node_id"}
	}
	if c.Broker.Enabled && c.MQTT.BrokerAddress == "" && len(c.MQTT.BrokerAddresses) == 0 &&
		!l.refused["mqtt.broker_address"] && !l.refused["mqtt.broker_addresses"] {
		c.MQTT.BrokerAddress = "tcp://" + Reach(c.Broker.BindAddress, c.Broker.BindPort)
		l.origins["mqtt.broker_address"] = Origin{Layer: FromDefault, Where: "the in-process broker"}
	}
	for name := range l.keys {
		if l.origins[name].Layer == "" {
			l.origins[name] = Origin{Layer: FromDefault}
		}
	}
}

// notices are what the user of a valid configuration should know. node says that
// it is for a node.
func notices(loaded *Loaded, node bool) []string {
	var all, later []string
	for _, key := range Keys() {
		if key.Status == Later && loaded.Origins[key.Name].Layer != FromDefault {
			later = append(later, key.Name)
		}
	}
	if len(later) > 0 {
		all = append(all, "set, but without effect in this version: "+strings.Join(later, ", "))
	}
	if unused := withoutPersistence(loaded); len(unused) > 0 {
		all = append(all, "set, but without effect while storage.persistence_enabled is false: "+
			strings.Join(unused, ", ")+"; data are in memory only")
	}
	if n := len(loaded.Config.Security.ClusterSecret); n > 0 && n < goodSecret {
		all = append(all, fmt.Sprintf("security.cluster_secret is short: use at least %d random characters", goodSecret))
	}
	if network := loaded.Config.Network; node && network.hidden() {
		all = append(all, fmt.Sprintf("network.bind_address %s lets other machines in, but this node tells them to "+
			"dial %s, where each finds only itself: set network.advertise_address to the host:port at which they "+
			"reach this node", network.BindAddress, network.Advertised(network.BindPort)))
	}
	return all
}

// withoutPersistence returns the keys by which somebody seems to expect that data
// are kept, though they are not.
func withoutPersistence(loaded *Loaded) []string {
	var unused []string
	for _, name := range []string{"storage.data_dir", "storage.fsync"} {
		if !loaded.Config.Storage.PersistenceEnabled && loaded.Origins[name].Layer != FromDefault {
			unused = append(unused, name)
		}
	}
	return unused
}

// goodSecret is the length, in bytes, below which a secret can be guessed.
const goodSecret = 16

// IsConfigError reports whether the user has to change the configuration.
func IsConfigError(err error) bool {
	var e *Error
	return errors.As(err, &e)
}
