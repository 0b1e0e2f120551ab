package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// exhibit is a bug that somebody could make, as an edit of the source, and the
// kind of run that has to find it.
type exhibit struct {
	name    string
	profile string
	edits   []edit
}

// edit replaces text that occurs exactly once in a file.
type edit struct{ file, old, new string }

// museumSeeds is within how many seeds each bug has to be found.
const museumSeeds = 5000

// root is where the module begins.
func root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// overlay writes the files of an exhibit into a directory, and the list of them
// that the compiler wants, whose name it returns.
func (x *exhibit) overlay(root, dir string) (string, error) {
	files := make(map[string]string) // where a file is to be: where it is
	for i, e := range x.edits {
		original := filepath.Join(root, e.file)
		from := original
		if files[original] != "" {
			from = files[original]
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := bytes.Count(content, []byte(e.old)); n != 1 {
			return "", fmt.Errorf("%s: %d places in %s are %q, want one", x.name, n, e.file, e.old)
		}
		changed := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(changed, bytes.Replace(content, []byte(e.old), []byte(e.new), 1), 0o600); err != nil {
			return "", err
		}
		files[original] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, list, 0o600)
}

// hunt builds the simulation with a bug and runs it until it finds that. It
// returns how many seeds it took and what was found.
func (x *exhibit) hunt(ctx context.Context, root string) (seeds int, found string, err error) {
	dir, err := os.MkdirTemp("", "merklekv-museum-")
	if err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(dir)
	list, err := x.overlay(root, dir)
	if err != nil {
		return 0, "", err
	}
	bin := filepath.Join(dir, "sim")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", bin, "./test/sim")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return 0, "", fmt.Errorf("%s does not compile: %w\n%s", x.name, err, out)
	}
	out, err := exec.CommandContext(ctx, bin, "-profile", x.profile, "-seeds", strconv.Itoa(museumSeeds), "-until", "-workers", "1").CombinedOutput()
	if err == nil {
		return museumSeeds, "", nil
	}
	for line := range strings.Lines(string(out)) {
		if rest, is := strings.CutPrefix(line, "FAIL seed "); is {
			seeds, _ = strconv.Atoi(rest[:max(0, strings.IndexByte(rest, ' '))])
			_, found, _ = strings.Cut(strings.TrimSpace(rest), "): ")
			return seeds, found, nil
		}
	}
	// A part may find a bug itself, and panic.
	if i := bytes.Index(out, []byte("panic: ")); i >= 0 {
		line, _, _ := bytes.Cut(out[i:], []byte("\n"))
		return 1, string(line), nil
	}
	return 0, "", fmt.Errorf("%s: %w\n%s", x.name, err, out)
}

// runMuseum hunts the bugs whose name contains a text, two at a time, and prints
// what each took.
func runMuseum(ctx context.Context, named string, out io.Writer) int {
	dir, err := root(ctx)
	if err != nil {
		fmt.Fprintln(out, err)
		return 2
	}
	code := 0
	visit(ctx, dir, exhibits(named), func(x *exhibit, seeds int, found string, err error) {
		switch {
		case err != nil:
			fmt.Fprintf(out, "ERROR %v\n", err)
			code = 1
		case found == "":
			fmt.Fprintf(out, "MISS  %-52s not found in %d seeds of %q\n", x.name, seeds, x.profile)
			code = 1
		default:
			fmt.Fprintf(out, "%5d  %-52s %-7s %.150s\n", seeds, x.name, x.profile, found)
		}
	})
	return code
}

// exhibits returns the bugs whose name contains a text.
func exhibits(named string) []*exhibit {
	var found []*exhibit
	for i := range museum {
		if strings.Contains(museum[i].name, named) {
			found = append(found, &museum[i])
		}
	}
	return found
}

// visit hunts the bugs and passes on what came of each, one at a time.
func visit(ctx context.Context, root string, bugs []*exhibit, done func(*exhibit, int, string, error)) {
	var mu sync.Mutex
	var hunters sync.WaitGroup
	rooms := make(chan *exhibit)
	for range 2 {
		hunters.Go(func() {
			for x := range rooms {
				seeds, found, err := x.hunt(ctx, root)
				mu.Lock()
				done(x, seeds, found, err)
				mu.Unlock()
			}
		})
	}
	for _, x := range bugs {
		rooms <- x
	}
	close(rooms)
	hunters.Wait()
}
