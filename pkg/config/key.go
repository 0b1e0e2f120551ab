package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/providers/structs"
)

// Kind is the type of a key's value.
type Kind int

// The kinds of values.
const (
	String Kind = iota
	Int
	Bool
	List // of strings
)

// String returns the name that the documentation uses.
func (k Kind) String() string {
	return [...]string{"string", "integer", "boolean", "list of strings"}[k]
}

// Status says whether a key has an effect in this version.
type Status string

// The states of a key.
const (
	Now   Status = "now"
	Later Status = "later" // read and checked, without effect yet
)

// Key is what is known of one key.
type Key struct {
	Name       string // dotted, as in network.bind_port
	Kind       Kind
	Unit       string // empty when the value has none
	Meaning    string
	Secret     bool     // never shown; may be read from a file
	Reloadable bool     // takes effect without a restart
	Status     Status   // empty is Now
	Min, Max   int64    // of an Int, both inclusive
	OrZero     bool     // of an Int: 0 is valid, too, though below Min
	Choices    []string // of a String; empty is any
	Flag       string   // name of the command line flag, empty if there is none
	Derived    string   // what the value is when none is given, if not the default

	// check says what is wrong with a value that is not empty (of a list: with
	// one entry), as the end of a sentence that begins with the value.
	check func(value string) error
}

// EnvPrefix begins every environment variable that is a key's.
const EnvPrefix = "MERKLE_KV_"

// Env returns the name of the environment variable that sets the key.
func (k Key) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// fileEnv is the variable that names a file which holds the value.
func (k Key) fileEnv() string { return k.Env() + "_FILE" }

// Section returns the TOML table that holds the key, empty for the top level.
func (k Key) Section() string {
	section, _, ok := strings.Cut(k.Name, ".")
	if !ok {
		return ""
	}
	return section
}

// Default returns the default in TOML notation.
func (k Key) Default() string { return render(flatten(Default())[k.Name]) }

// flatten returns every key's value by its dotted name.
func flatten(c Config) map[string]any {
	nested, _ := structs.Provider(c, "koanf").Read() // it never returns an error
	flat, _ := maps.Flatten(nested, nil, ".")
	return flat
}

// render writes a value in TOML notation. Secrets come out masked.
func render(value any) string {
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.String:
		return strconv.Quote(fmt.Sprint(value))
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = render(v.Index(i).Interface())
		}
		return "[" + strings.Join(items, ", ") + "]"
	default:
		return fmt.Sprint(value)
	}
}

// lookup is the key table by name.
func lookup() map[string]Key {
	table := make(map[string]Key)
	for _, k := range Keys() {
		table[k.Name] = k
	}
	return table
}
