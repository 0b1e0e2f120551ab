package config

import (
	"fmt"
	"strconv"

	"github.com/knadh/koanf/providers/posflag"
	"github.com/spf13/pflag"
)

// AddFlags adds a flag for each key that has one.
func AddFlags(flags *pflag.FlagSet) {
	for _, key := range Keys() {
		if key.Flag == "" {
			continue
		}
		usage := fmt.Sprintf("%s (%s)", key.Meaning, key.Name)
		switch key.Kind {
		case Int:
			standard, _ := strconv.ParseInt(key.Default(), 10, 64) // the default of an Int is one
			flags.Int64(key.Flag, standard, usage)
		case Bool:
			flags.Bool(key.Flag, key.Default() == "true", usage)
		case List:
			flags.StringSlice(key.Flag, nil, usage)
		default:
			standard, _ := strconv.Unquote(key.Default())
			flags.String(key.Flag, standard, usage)
		}
	}
}

// readFlags lays the flags that were given over what is there.
func (l *loader) readFlags() {
	if l.src.Flags == nil {
		return
	}
	byFlag := make(map[string]Key)
	for _, key := range l.keys {
		if key.Flag != "" {
			byFlag[key.Flag] = key
		}
	}
	provider := posflag.ProviderWithFlag(l.src.Flags, ".", l.values, func(f *pflag.Flag) (string, any) {
		key, known := byFlag[f.Name]
		if !known || !f.Changed {
			return "", nil
		}
		l.origins[key.Name] = Origin{Layer: FromFlag, Where: "--" + f.Name}
		delete(l.refused, key.Name)
		return key.Name, posflag.FlagVal(l.src.Flags, f)
	})
	if err := l.values.Load(provider, nil); err != nil {
		l.refuse(Problem{What: "flags: " + err.Error()})
	}
}
