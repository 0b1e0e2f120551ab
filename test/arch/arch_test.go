package arch

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const root = "../.."

func TestImportsGoDownOnly(t *testing.T) {
	found, read, err := Violations(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if read < 10 {
		t.Fatalf("only %d files found: this looks at the wrong place", read)
	}
	for _, violation := range found {
		t.Error(violation)
	}
}

func TestViolationsAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		file, imports, want string
	}{
		"down":                 {"pkg/node/a.go", "merklekv/pkg/store", ""},
		"far down":             {"cmd/merklekv/a.go", "merklekv/pkg/hlc", ""},
		"the standard":         {"pkg/hlc/a.go", "net/http", ""},
		"within a package":     {"pkg/journal/journaltest/a.go", "merklekv/pkg/journal", ""},
		"test files may":       {"pkg/hlc/a_test.go", "merklekv/pkg/node", ""},
		"data is no code":      {"pkg/hlc/testdata/a.go", "merklekv/pkg/node", ""},
		"up":                   {"pkg/kv/a.go", "merklekv/pkg/store", "imports go down only"},
		"sideways":             {"pkg/server/a.go", "merklekv/pkg/store", "both on line 3"},
		"up from a child":      {"pkg/merkle/sketch/a.go", "merklekv/pkg/node", "imports go down only"},
		"up to a child":        {"pkg/kv/a.go", "merklekv/pkg/journal/journaltest", "imports go down only"},
		"a test helper":        {"pkg/node/a.go", "merklekv/test/cluster", "for tests"},
		"internal to others":   {"pkg/internal/poll/a.go", "merklekv/pkg/hlc", "both on line 0"},
		"a package unheard of": {"pkg/utils/a.go", "fmt", "has no line"},
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{c.file: {Data: []byte("package p\n\nimport _ \"" + c.imports + "\"\n")}}
			found, _, err := Violations(files)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("%s importing %s was reported: %q", c.file, c.imports, found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0], c.want)):
				t.Errorf("%s importing %s gave %q, want one with %q", c.file, c.imports, found, c.want)
			}
		})
	}
}

// permitted is what may lie at the top of the repository, beside names that begin with a dot.
// Documents live beside what they describe.
var permitted = []string{
	"cmd", "pkg", "deploy", "docker-compose.yml", "Dockerfile", "configs", "test",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
}

// strangers returns the names of a top level that are not permitted there.
func strangers(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return strings.HasPrefix(name, ".") || slices.Contains(permitted, name)
	})
}

func TestTopLevelHoldsOnlyWhatBelongsThere(t *testing.T) {
	// What git knows; build results that it ignores are nobody's concern.
	output, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	var names []string
	for file := range strings.Lines(string(output)) {
		top, _, _ := strings.Cut(strings.TrimSpace(file), "/")
		names = append(names, top)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 5 {
		t.Fatalf("git lists only %q: this looks at the wrong place", names)
	}
	for _, name := range strangers(names) {
		t.Errorf("%s lies at the top of the repository, where only %v may", name, permitted)
	}
}

func TestStrangersAreReported(t *testing.T) {
	got := strangers([]string{".gitignore", "cmd", "docs", "Makefile", "internal"})
	if want := []string{"docs", "internal"}; !slices.Equal(got, want) {
		t.Errorf("strangers %q, want %q", got, want)
	}
}
