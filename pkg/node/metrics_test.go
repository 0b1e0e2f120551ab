package node_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"merklekv/pkg/admin"
	"merklekv/pkg/config"
	"merklekv/pkg/internal/poll"
)

var update = flag.Bool("update", false, "bring the document of the metrics up to date")

const (
	metricsDocument = "../admin/METRICS.md"
	updateCommand   = "go test ./pkg/node -run TestEveryMetricIsDocumented -update"
)

// Every metric of a node that has done a little of everything is in the document,
// in the words of the code, and the document has none that is gone.
func TestEveryMetricIsDocumented(t *testing.T) {
	families := exercised(t, cluster(t, func(c *config.Config) { backedUp(t, c) }))
	doc, err := os.ReadFile(metricsDocument)
	if err != nil {
		t.Fatal(err)
	}
	want, err := admin.UpdateMetricsDoc(doc, families)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(metricsDocument, want, 0o644); err != nil {
			t.Fatal(err)
		}
		doc = want
	}
	if missing := admin.UndocumentedMetrics(doc, families); len(missing) > 0 {
		t.Errorf("%s lacks %q; run %s", metricsDocument, missing, updateCommand)
	} else if !bytes.Equal(doc, want) {
		t.Errorf("%s says something else than the code; run %s", metricsDocument, updateCommand)
	}
	for _, name := range documentedMetrics(doc) {
		if family(families, name) == nil {
			t.Errorf("%s has %s, which no node has: delete the row", metricsDocument, name)
		}
	}
}

// exercised returns the metrics of the first node, which runs the broker, after
// a write, a read, an error, and a change from each of its peers.
func exercised(t *testing.T, nodes []*running) []*dto.MetricFamily {
	t.Helper()
	for i, n := range nodes {
		n.do("SET key%d value", i)
		nodes[0].shows(fmt.Sprintf("key%d", i), "value")
	}
	nodes[0].do("nonsense")
	var families []*dto.MetricFamily
	poll.Until(t, patience, func() bool {
		var err error
		if families, err = nodes[0].Registry().Gather(); err != nil {
			t.Fatal(err)
		}
		lag := family(families, "merklekv_replication_lag_entries")
		return lag != nil && len(lag.GetMetric()) == len(nodes)-1
	}, "the first node shows the lag to both of its peers")
	return families
}

// documentedMetrics returns the names of the product's own metrics in the table.
func documentedMetrics(doc []byte) []string {
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(merklekv_[a-z_]+)`").FindAllSubmatch(doc, -1) {
		names = append(names, string(row[1]))
	}
	return names
}

// family returns the metrics of one name, nil if there are none.
func family(families []*dto.MetricFamily, name string) *dto.MetricFamily {
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		return nil
	}
	return families[i]
}
