package config

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/knadh/koanf/providers/env/v2"
)

// variable is an environment variable that can set a key.
type variable struct {
	key      Key
	fromFile bool // it names a file that holds the value
}

// variables returns every valid variable by its name. The names come from the
// key table: an underscore in a name stands for itself or for the dot, and only
// the table knows which.
func variables(keys map[string]Key) map[string]variable {
	table := make(map[string]variable)
	for _, key := range keys {
		table[key.Env()] = variable{key: key}
		if key.Secret {
			table[key.fileEnv()] = variable{key: key, fromFile: true}
		}
	}
	return table
}

// readEnviron lays the environment over what is there.
func (l *loader) readEnviron() {
	environ := append([]string(nil), l.src.Environ...)
	sort.Strings(environ)
	table := variables(l.keys)
	setBy := make(map[string]string)
	provider := env.Provider(".", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, text string) (string, any) {
			v, known := table[name]
			if !known {
				l.refuse(Problem{Where: oneLine(name),
					What: fmt.Sprintf("unknown variable; did you mean %s?", Nearest(name, slices.Collect(maps.Keys(table))))})
				return "", nil
			}
			if other := setBy[v.key.Name]; other != "" && other != name {
				l.refuse(Problem{Where: name, Key: v.key.Name, What: "is set by " + other + " too; unset one of them"})
				return "", nil
			}
			setBy[v.key.Name] = name
			return l.fromVariable(name, v, text)
		},
	})
	if err := l.values.Load(provider, nil); err != nil {
		l.refuse(Problem{What: "environment: " + err.Error()})
	}
}

// fromVariable returns the key and the value that a variable sets; an empty key
// when it cannot be taken.
func (l *loader) fromVariable(name string, v variable, text string) (string, any) {
	separator := ","
	if v.fromFile {
		data, err := readBounded(text)
		if err != nil {
			l.refuse(Problem{Where: name, Key: v.key.Name, What: fmt.Sprintf("%q %v", text, err)})
			return "", nil
		}
		text, separator = strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"
		text = strings.TrimSuffix(text, "\n")
	}
	value, err := fromText(v.key, text, separator)
	if err != nil {
		l.refuse(Problem{Where: name, Key: v.key.Name, What: err.Error()})
		return "", nil
	}
	l.origins[v.key.Name] = Origin{Layer: FromEnv, Where: name}
	return v.key.Name, value
}

// fromText reads a value that is written as plain text. A list is divided by
// the separator; blanks around its entries do not count.
func fromText(key Key, text, separator string) (any, error) {
	switch key.Kind {
	case Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is not a whole number, as in %s", key.shown(text, "the value"), key.Default())
		}
		return n, nil
	case Bool:
		switch strings.ToLower(text) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, fmt.Errorf("%s is neither true nor false", key.shown(text, "the value"))
	case List:
		entries := []string{}
		if strings.TrimSpace(text) == "" {
			return entries, nil
		}
		for _, entry := range strings.Split(text, separator) {
			entries = append(entries, strings.TrimSpace(entry))
		}
		return entries, nil
	default:
		return text, nil
	}
}
