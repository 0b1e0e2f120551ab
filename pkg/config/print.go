package config

import (
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
)

// Print writes each key, its value and where that came from, one key a line.
// Secrets come out masked.
func (l *Loaded) Print(w io.Writer) error {
	values := flatten(l.Config)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, key := range Keys() {
		fmt.Fprintf(table, "%s\t= %s\t# %s\n", key.Name, render(values[key.Name]), l.Origins[key.Name])
	}
	return table.Flush()
}

// LogValue gives all keys by section, secrets masked.
func (c Config) LogValue() slog.Value {
	values := flatten(c)
	var top []slog.Attr
	sections := make(map[string][]any)
	var order []string
	for _, key := range Keys() {
		section := key.Section()
		if section == "" {
			top = append(top, slog.Any(key.Name, values[key.Name]))
			continue
		}
		if sections[section] == nil {
			order = append(order, section)
		}
		sections[section] = append(sections[section], slog.Any(lastPart(key.Name), values[key.Name]))
	}
	for _, section := range order {
		top = append(top, slog.Group(section, sections[section]...))
	}
	return slog.GroupValue(top...)
}
