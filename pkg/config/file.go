package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	gotoml "github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFileSize bounds a configuration file and a secret file, in bytes.
const maxFileSize = 256 << 10

// readFile lays the TOML file over what is there.
func (l *loader) readFile() {
	if l.src.File == "" {
		return
	}
	data, err := readBounded(l.src.File)
	if err != nil {
		l.unread = true
		l.refuse(Problem{Where: l.src.File, What: err.Error()})
		return
	}
	l.readTOML(data)
}

// readBounded reads a file that must not be larger than maxFileSize. The error
// does not repeat the path.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, errors.New("cannot be read; is it a file?")
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("is larger than %d bytes", maxFileSize)
	}
	return data, nil
}

func (l *loader) readTOML(data []byte) {
	parsed := koanf.New(".")
	if err := parsed.Load(rawbytes.Provider(data), toml.Parser()); err != nil {
		l.unread = true
		l.refuse(l.syntaxProblem(err))
		return
	}
	t := &tomlReader{l: l, lines: keyLines(data), values: make(map[string]any)}
	t.walk("", parsed.Raw())
	slices.SortStableFunc(t.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	for _, p := range t.problems {
		l.refuse(p)
	}
	l.put(t.values)
}

func (l *loader) syntaxProblem(err error) Problem {
	p := Problem{Where: l.src.File, What: "is not valid TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
	var at *gotoml.DecodeError
	if errors.As(err, &at) {
		p.Line, _ = at.Position()
	}
	return p
}

// tomlReader takes what a parsed file says.
type tomlReader struct {
	l        *loader
	lines    map[string]int
	values   map[string]any
	problems []Problem
}

// walk takes the keys of one table; section is empty for the top level.
func (t *tomlReader) walk(section string, table map[string]any) {
	for name, value := range table {
		path := name
		if section != "" {
			path = section + "." + name
		}
		key, known := t.l.keys[path]
		sub, isTable := value.(map[string]any)
		switch {
		case strings.Contains(name, "."): // only quoted names can
			t.problem(path, "unknown key; a key stands without quotes below its [section]")
		case known:
			t.take(key, value)
		case section == "" && isTable && t.isSection(name):
			t.walk(name, sub)
		case section == "" && t.isSection(name):
			t.problem(path, fmt.Sprintf("must be a table: write [%s] and its keys below it", name))
		default:
			t.problem(path, fmt.Sprintf("unknown key; did you mean %s?", nearestKey(path, t.l.keys)))
		}
	}
}

func (t *tomlReader) isSection(name string) bool {
	for _, key := range t.l.keys {
		if key.Section() == name {
			return true
		}
	}
	return false
}

func (t *tomlReader) problem(path, what string) {
	t.problems = append(t.problems, Problem{
		Where: t.l.src.File, Line: t.lines[path], Key: oneLine(path), What: what,
	})
}

// take accepts one value if it has the key's type.
func (t *tomlReader) take(key Key, value any) {
	taken, ok := fromTOML(key, value)
	if !ok {
		t.problem(key.Name, fmt.Sprintf("must be %s, not %s", key.wanted(), describe(value)))
		return
	}
	t.values[key.Name] = taken
	t.l.origins[key.Name] = Origin{Layer: FromFile, Where: t.l.src.File, Line: t.lines[key.Name]}
}

// fromTOML returns the value as the Config has it.
func fromTOML(key Key, value any) (any, bool) {
	switch v := value.(type) {
	case string:
		return v, key.Kind == String
	case int64:
		return v, key.Kind == Int
	case bool:
		return v, key.Kind == Bool
	case []any:
		texts := make([]string, len(v))
		for i, item := range v {
			text, ok := item.(string)
			if !ok {
				return nil, false
			}
			texts[i] = text
		}
		return texts, key.Kind == List
	}
	return nil, false
}

// wanted describes a valid value, with an example.
func (k Key) wanted() string {
	switch k.Kind {
	case Int:
		return "a whole number, as in " + k.Default()
	case Bool:
		return "true or false, without quotes"
	case List:
		return `a list of strings, as in ["one", "two"]`
	default:
		return "a string, in quotes"
	}
}

// describe names the TOML type of a value.
func describe(value any) string {
	switch v := value.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case []any:
		for _, item := range v {
			if _, ok := item.(string); !ok {
				return "a list that holds " + describe(item)
			}
		}
		return "a list"
	case map[string]any:
		return "a table"
	case time.Time, gotoml.LocalDate, gotoml.LocalTime, gotoml.LocalDateTime:
		return "a date or a time; put it into quotes"
	default:
		return fmt.Sprintf("a %T", value)
	}
}

// lineFinder notes on which line each key of a TOML document stands.
type lineFinder struct {
	parser   unstable.Parser
	newlines []int          // offsets of the line ends
	lines    map[string]int // by dotted path
}

// keyLines returns the line, from 1, on which each key and table of a valid
// TOML document first stands, by its dotted path.
func keyLines(data []byte) map[string]int {
	f := &lineFinder{lines: make(map[string]int)}
	for i, b := range data {
		if b == '\n' {
			f.newlines = append(f.newlines, i)
		}
	}
	f.parser.Reset(data)
	table := ""
	for f.parser.NextExpression() {
		node := f.parser.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = f.note("", node)
		case unstable.KeyValue:
			f.noteValue(table, node)
		}
	}
	return f.lines
}

// noteValue notes a key and, where its value is an inline table, the keys in
// that.
func (f *lineFinder) noteValue(prefix string, node *unstable.Node) {
	path := f.note(prefix, node)
	if node.Value().Kind != unstable.InlineTable {
		return
	}
	for inner := node.Value().Children(); inner.Next(); {
		f.noteValue(path, inner.Node())
	}
}

// note notes the line of each part of a dotted key; it returns the path.
func (f *lineFinder) note(prefix string, node *unstable.Node) string {
	path := prefix
	for parts := node.Key(); parts.Next(); {
		part := parts.Node()
		if path != "" {
			path += "."
		}
		path += string(part.Data)
		if _, noted := f.lines[path]; !noted {
			before, _ := slices.BinarySearch(f.newlines, int(part.Raw.Offset))
			f.lines[path] = before + 1
		}
	}
	return path
}
