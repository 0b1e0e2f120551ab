// Package docs_test checks that the documents name only what there is.
package docs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"merklekv/pkg/config"
	"merklekv/pkg/protocol"
)

const root = "../.."

// documents are the ones that users read first.
var documents = []string{"README.md", "deploy/README.md", ".github/CONTRIBUTING.md"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eachMatch calls check with the first group of every match of a pattern in any
// of the documents. It fails if fewer than least are found: the pattern, or the
// documents, must have changed.
func eachMatch(t *testing.T, pattern string, least int, check func(document, found string)) {
	t.Helper()
	expression, count := regexp.MustCompile(pattern), 0
	for _, document := range documents {
		for _, match := range expression.FindAllStringSubmatch(read(t, document), -1) {
			count++
			check(document, match[1])
		}
	}
	if count < least {
		t.Errorf("%q found %d times, want at least %d", pattern, count, least)
	}
}

// testNames returns the names of all test functions.
func testNames(t *testing.T) []string {
	t.Helper()
	declaration := regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.[TM]\)`)
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, match := range declaration.FindAllStringSubmatch(read(t, path), -1) {
			names = append(names, match[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNamedTestsExist(t *testing.T) {
	names := testNames(t)
	eachMatch(t, "`(Test[A-Z]\\w+)`", 10, func(document, name string) {
		if !slices.Contains(names, name) {
			t.Errorf("%s names %s, which no test file has", document, name)
		}
	})
}

// A promise of the README without a test is a wish.
func TestEveryPromiseNamesATest(t *testing.T) {
	_, rest, _ := strings.Cut(read(t, "README.md"), "\n## What it promises\n")
	promises, _, found := strings.Cut(rest, "\nWhat it does not promise:")
	if !found {
		t.Fatal("README.md has no promises")
	}
	for line := range strings.Lines(promises) {
		if strings.HasPrefix(line, "- ") && !strings.Contains(line, "`Test") {
			t.Errorf("no test shows: %.80s", line)
		}
	}
}

func TestLinkedFilesExist(t *testing.T) {
	eachMatch(t, `\]\(([^)#]+)[^)]*\)`, 10, func(document, link string) {
		if strings.Contains(link, "://") {
			return
		}
		if _, err := os.Stat(filepath.Join(root, filepath.Dir(document), link)); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s links to %s, which does not exist", document, link)
		}
	})
}

func TestNamedScriptsExist(t *testing.T) {
	eachMatch(t, `\b((?:deploy|configs)/[\w.-]+\.(?:sh|toml))\b`, 10, func(document, path string) {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Errorf("%s names %s: %v", document, path, err)
		}
	})
}

func TestNamedKeysExist(t *testing.T) {
	var names, sections, variables []string
	for _, key := range config.Keys() {
		names = append(names, key.Name)
		sections = append(sections, key.Section())
		variables = append(variables, key.Env())
		if key.Secret {
			variables = append(variables, key.Env()+"_FILE")
		}
	}
	eachMatch(t, "`(\\w+\\.\\w+)`", 10, func(document, name string) {
		section, _, _ := strings.Cut(name, ".")
		if slices.Contains(sections, section) && !slices.Contains(names, name) {
			t.Errorf("%s names %s, which is no key", document, name)
		}
	})
	eachMatch(t, `\b(MERKLE_KV_[A-Z_]*[A-Z])\b`, 10, func(document, name string) {
		if name != "MERKLE_KV_SECTION_KEY" && !slices.Contains(variables, name) {
			t.Errorf("%s names %s, which sets nothing", document, name)
		}
	})
}

// What stands in a row of the configuration table belongs together.
func TestKeysStandBesideTheirVariables(t *testing.T) {
	variable := regexp.MustCompile("`(MERKLE_KV_\\w+)`")
	rows := 0
	for line := range strings.Lines(read(t, "README.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[2], "`MERKLE_KV_") {
			continue
		}
		rows++
		var keys []string
		for _, key := range config.Keys() {
			if strings.Contains(cells[1], "`"+key.Name+"`") {
				keys = append(keys, key.Env())
			}
		}
		for _, match := range variable.FindAllStringSubmatch(cells[2], -1) {
			if !slices.Contains(keys, strings.TrimSuffix(match[1], "_FILE")) {
				t.Errorf("%s stands beside %s", match[1], strings.TrimSpace(cells[1]))
			}
		}
	}
	if rows < 5 {
		t.Errorf("only %d rows of the configuration table found", rows)
	}
}

func TestPrintedConfigurationIsValid(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md prints no configuration")
	}
	for _, block := range blocks {
		path := filepath.Join(t.TempDir(), "readme.toml")
		if err := os.WriteFile(path, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.Sources{File: path}); err != nil {
			t.Errorf("%v in:\n%s", err, block[1])
		}
	}
}

func TestCommandTableIsWhole(t *testing.T) {
	_, rest, _ := strings.Cut(read(t, "README.md"), "<!-- commands -->")
	table, _, found := strings.Cut(rest, "<!-- end of commands -->")
	if !found {
		t.Fatal("README.md has no table of commands")
	}
	var named []string
	for line := range strings.Lines(table) {
		cells := strings.SplitN(line, "|", 3)
		for _, match := range regexp.MustCompile("`([A-Z]+)").FindAllStringSubmatch(cells[min(1, len(cells)-1)], -1) {
			named = append(named, match[1])
		}
	}
	for _, name := range named {
		if protocol.Lookup([]byte(name)) == nil {
			t.Errorf("the table names %s, which is no command", name)
		}
	}
	for _, command := range protocol.Commands() {
		if !slices.Contains(named, command.Name) {
			t.Errorf("the table lacks %s", command.Name)
		}
	}
}

func TestNamedTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	eachMatch(t, "(?m)(?:^|`|\\$ )make ([a-z][a-z-]*)", 10, func(document, target string) {
		if !strings.Contains(makefile, "\n"+target+":") {
			t.Errorf("%s names make %s, which the Makefile lacks", document, target)
		}
	})
}

func TestNamedComposeVariablesExist(t *testing.T) {
	compose := read(t, "docker-compose.yml")
	eachMatch(t, `\b(MKV_[A-Z0-9_]*[A-Z])\b`, 8, func(document, name string) {
		if !strings.Contains(compose, "${"+name+":-") {
			t.Errorf("%s names %s, which docker-compose.yml does not read", document, name)
		}
	})
}
