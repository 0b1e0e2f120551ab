// Package arch checks what the compiler cannot: which package may import which, and what lies at
// the top of the repository.
//
//	5  cmd/merklekv
//	4  pkg/node
//	3  pkg/{server,replication,antientropy,store,broker,client,admin,config,backup}
//	2  pkg/{protocol,merkle,journal,volume}
//	1  pkg/{kv,vector}
//	0  pkg/hlc  pkg/logging  pkg/internal/...
//
// A package imports only from a lower line, never from its own: what it needs of a neighbour it
// declares as a small interface, and pkg/node puts the two together. A package below another
// counts as its parent. Test files, and everything in test/, may import all.
package arch

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

const module = "merklekv"

// lines holds the line of every package, by its path in the repository.
var lines = map[string]int{
	"cmd/merklekv":    5,
	"pkg/node":        4,
	"pkg/server":      3,
	"pkg/replication": 3,
	"pkg/antientropy": 3,
	"pkg/store":       3,
	"pkg/broker":      3,
	"pkg/client":      3,
	"pkg/admin":       3,
	"pkg/config":      3,
	"pkg/backup":      3,
	"pkg/protocol":    2,
	"pkg/merkle":      2,
	"pkg/journal":     2,
	"pkg/volume":      2,
	"pkg/kv":          1,
	"pkg/vector":      1,
	"pkg/hlc":         0,
	"pkg/logging":     0,
	"pkg/internal":    0,
}

// owner returns the package of the table that dir is or lies below.
func owner(dir string) (string, bool) {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, known := lines[dir]; known {
			return dir, true
		}
	}
	return "", false
}

// Violations returns a sentence for every import in the Go files of root, below cmd and pkg, that
// the lines forbid, and for every package that has no line. Read is how many files were looked at.
func Violations(root fs.FS) (found []string, read int, err error) {
	for _, top := range []string{"cmd", "pkg"} {
		err := fs.WalkDir(root, top, func(file string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && file == top:
				return nil
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == "testdata":
				return fs.SkipDir
			case entry.IsDir(), !strings.HasSuffix(file, ".go"), strings.HasSuffix(file, "_test.go"):
				return nil
			}
			read++
			sentences, err := violationsOf(root, file)
			found = append(found, sentences...)
			return err
		})
		if err != nil {
			return nil, read, fmt.Errorf("look through %s: %w", top, err)
		}
	}
	return found, read, nil
}

// violationsOf returns a sentence for every forbidden import of one file.
func violationsOf(root fs.FS, file string) ([]string, error) {
	from, known := owner(path.Dir(file))
	if !known {
		return []string{fmt.Sprintf("%s: the package has no line; give it one in test/arch/lines.go", file)}, nil
	}
	source, err := fs.ReadFile(root, file)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		dir, ours := strings.CutPrefix(imported, module+"/")
		if !ours {
			continue
		}
		if why := forbidden(from, dir); why != "" {
			found = append(found, fmt.Sprintf("%s imports %s: %s", file, imported, why))
		}
	}
	return found, nil
}

// forbidden says why package from may not import the package in dir, or nothing when it may.
func forbidden(from, dir string) string {
	to, known := owner(dir)
	switch {
	case !known:
		return "it is for tests, or has no line in test/arch/lines.go"
	case to == from || lines[to] < lines[from]:
		return ""
	case lines[to] == lines[from]:
		return fmt.Sprintf("%s and %s are both on line %d; declare the few methods that are needed as an "+
			"interface in %s and let pkg/node pass the other in", from, to, lines[to], from)
	default:
		return fmt.Sprintf("%s is on line %d, above %s on line %d; imports go down only",
			to, lines[to], from, lines[from])
	}
}
