package disk_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"merklekv/pkg/journal/disk"
)

// TestDamageIsTold reads a damaged table of an open journal: the journal knows it
// from then on, says which file, and counts it.
func TestDamageIsTold(t *testing.T) {
	checkLeaks(t)
	s := tablesScene(t)
	table := largestTable(t, s.files)
	flipByte(t, s.files, table, 10_000)
	registry := prometheus.NewRegistry()
	j := open(t, dirOf, disk.Options{FS: s.files, Registerer: registry})
	if _, err := contentOf(j); !errors.Is(err, disk.ErrDamaged) {
		t.Errorf("Load: %v", err)
	}
	var damage *disk.DamageError
	if err := j.Damage(); !errors.As(err, &damage) || s.files.PathBase(damage.File) != s.files.PathBase(table) {
		t.Errorf("Damage() = %v, want one of %s", err, table)
	}
	if n := valueOfMetric(t, registry, "merklekv_journal_damage_total"); n < 1 {
		t.Errorf("%v damages were counted", n)
	}
	if n := valueOfMetric(t, registry, "merklekv_journal_table_bytes"); n < 300_000 {
		t.Errorf("the tables have %v bytes", n)
	}
	mustDo(t, j.Close())
}

// TestReopenWithMetrics opens a journal twice with one registry, the second time
// after an attempt that failed.
func TestReopenWithMetrics(t *testing.T) {
	checkLeaks(t)
	files, registry := vfs.NewMem(), prometheus.NewRegistry()
	o := disk.Options{FS: files, Registerer: registry}
	first := open(t, dirOf, o)
	if _, err := disk.Open(dirOf, o); err == nil {
		t.Error("the journal was opened twice at the same time")
	}
	mustDo(t, first.Close())
	second := open(t, dirOf, o)
	if err := second.Damage(); err != nil {
		t.Errorf("Damage() = %v", err)
	}
	mustDo(t, second.Close())
}

func valueOfMetric(t *testing.T, from prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := from.Gather()
	mustDo(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
