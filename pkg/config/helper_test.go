package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// required is what a valid file cannot do without.
const required = "node_id = \"n\"\nmqtt.broker_address = \"b\"\n"

// writeFile returns the path of a new file with that content.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustLoad loads what must be valid.
func mustLoad(t testing.TB, src Sources) *Loaded {
	t.Helper()
	loaded, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// problemsOf loads what must be wrong and returns each problem as its line.
func problemsOf(t testing.TB, src Sources) []string {
	t.Helper()
	loaded, err := Load(src)
	var e *Error
	if loaded != nil || !errors.As(err, &e) || len(e.Problems) == 0 {
		t.Fatalf("no *Error but %v", err)
	}
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
		if src.File != "" {
			lines[i] = strings.ReplaceAll(lines[i], src.File, "FILE")
		}
	}
	if got := strings.Split(e.Error(), "\n"); len(got) != len(lines)+1 {
		t.Errorf("%d problems on %d lines:\n%v", len(lines), len(got), e)
	}
	return lines
}
