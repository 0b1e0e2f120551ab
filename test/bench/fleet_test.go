package main

import (
	"bytes"
	"testing"
	"time"
)

// The whole scenario, small, on real nodes: every write arrives everywhere.
func TestSustainOnRealNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three nodes")
	}
	var out bytes.Buffer
	b := &bench{
		options: options{total: 5000, sustain: 200 * time.Millisecond, keys: 300, valueSize: 64},
		out:     &out, dir: t.TempDir(),
	}
	f, err := startFleet(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.stop(); err != nil {
			t.Errorf("nodes do not end well: %v", err)
		}
	}()
	if _, _, err := b.writeAll(t.Context(), f.clients); err != nil {
		t.Fatal(err)
	}
	if _, err := spread(t.Context(), f.clients, "sustain"); err != nil {
		t.Fatal(err)
	}
	total, err := sumOver(t.Context(), f.admins)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range shown {
		if _, ok := total[name]; !ok {
			t.Errorf("the nodes have no metric %s", name)
		}
	}
	if got := total["merklekv_replication_published_total"]; got < 1000 {
		t.Errorf("1000 writes, %v published", got)
	}
	if err := b.checkGaps(t.Context(), f.admins); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if err := b.checkDumps(f.clients); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}
