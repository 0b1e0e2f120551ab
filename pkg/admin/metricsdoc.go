package admin

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// METRICS.md holds the table of metrics between these two lines. A row's first
// cell is the name in back quotes; a name that ends in * stands for all that
// begin so, as go_* does.
const (
	tableBegin = "<!-- metrics: generated, do not edit -->"
	tableEnd   = "<!-- metrics: end -->"
	tableHead  = "| metric | type | labels | meaning |\n|---|---|---|---|\n"
)

// ErrNoTable is returned when a document lacks the lines between which the
// table of metrics belongs.
var ErrNoTable = errors.New("document has no metrics table")

// UndocumentedMetrics returns the names of those families that have no row in
// doc's table, sorted. A family that was gathered before its first use has no
// children yet and is not among families: exercise it first.
func UndocumentedMetrics(doc []byte, families []*dto.MetricFamily) []string {
	rows := tableRows(doc)
	var missing []string
	for _, f := range families {
		if !documented(rows, f.GetName()) {
			missing = append(missing, f.GetName())
		}
	}
	slices.Sort(missing)
	return missing
}

// UpdateMetricsDoc returns doc with its table brought up to date: a row for each
// family, from its help text, unless a * row covers it. Rows of metrics that are
// not among families stay, because not every metric shows in every run.
func UpdateMetricsDoc(doc []byte, families []*dto.MetricFamily) ([]byte, error) {
	begin := bytes.Index(doc, []byte(tableBegin))
	end := bytes.Index(doc, []byte(tableEnd))
	if begin < 0 || end < begin {
		return nil, ErrNoTable
	}
	rows := tableRows(doc)
	for _, f := range families {
		if !coveredByPrefix(rows, f.GetName()) {
			rows[f.GetName()] = row(f)
		}
	}
	var out bytes.Buffer
	out.Write(doc[:begin])
	out.WriteString(tableBegin + "\n" + tableHead)
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		out.WriteString(rows[name] + "\n")
	}
	out.Write(doc[end:])
	return out.Bytes(), nil
}

// tableRows returns the rows of doc's table by name, nil without a table.
func tableRows(doc []byte) map[string]string {
	rows := make(map[string]string)
	_, rest, found := strings.Cut(string(doc), tableBegin)
	table, _, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		return rows
	}
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		rest, isRow := strings.CutPrefix(line, "| `")
		name, _, closed := strings.Cut(rest, "`")
		if isRow && closed {
			rows[name] = line
		}
	}
	return rows
}

func documented(rows map[string]string, name string) bool {
	_, ok := rows[name]
	return ok || coveredByPrefix(rows, name)
}

// coveredByPrefix reports whether a row such as go_* covers the name.
func coveredByPrefix(rows map[string]string, name string) bool {
	for r := range rows {
		prefix, isPrefix := strings.CutSuffix(r, "*")
		if isPrefix && prefix != "" && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func row(f *dto.MetricFamily) string {
	help := strings.ReplaceAll(oneLine(f.GetHelp()), "|", "\\|")
	kind := strings.ToLower(f.GetType().String())
	return fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), kind, labels(f), help)
}

// labels lists the label names of all of the family's children.
func labels(f *dto.MetricFamily) string {
	names := make(map[string]bool)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names["`"+l.GetName()+"`"] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}
