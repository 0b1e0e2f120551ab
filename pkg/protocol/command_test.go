package protocol

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestTableIsWhole(t *testing.T) {
	seen := map[ID]bool{CmdNone: true}
	words := map[string]bool{}
	for _, c := range Commands() {
		if seen[c.ID] {
			t.Errorf("%s has the ID of another command", c.Name)
		}
		seen[c.ID] = true
		for _, word := range append([]string{c.Name}, c.Aliases...) {
			if words[word] {
				t.Errorf("%s names two commands", word)
			}
			words[word] = true
			for _, text := range []string{word, strings.ToLower(word)} {
				if got := Lookup([]byte(text)); got == nil || got.ID != c.ID {
					t.Errorf("%s is not found", text)
				}
			}
		}
		if c.MaxArgs != Unlimited && c.MaxArgs < c.MinArgs || c.Rest && c.MaxArgs < 1 {
			t.Errorf("%s cannot take %d to %d arguments", c.Name, c.MinArgs, c.MaxArgs)
		}
		if c.Reply == "" || c.Help == "" {
			t.Errorf("%s is not documented", c.Name)
		}
		if c.ID.String() != strings.ToLower(c.Name) {
			t.Errorf("%s is called %s", c.Name, c.ID)
		}
	}
	if len(seen) != int(NumCommands) {
		t.Errorf("%d IDs, %d of them in the table", NumCommands, len(seen))
	}
}

func TestLookupRefuses(t *testing.T) {
	for _, text := range []string{"", "G", "GETS", "gEt\x00", "G\x45\x74 ", "'ET", "\x07ET", "ÄET"} {
		if c := Lookup([]byte(text)); c != nil {
			t.Errorf("%q is %s", text, c.Name)
		}
	}
}

var update = flag.Bool("update", false, "rewrite the generated part of PROTOCOL.md")

const (
	beginMark = "<!-- commands: written by go test ./pkg/protocol -update -->\n"
	endMark   = "<!-- end of commands -->\n"
)

// documented returns the command table as the document shows it.
func documented() string {
	var b strings.Builder
	b.WriteString("| request | reply | meaning |\n|---|---|---|\n")
	for _, c := range Commands() {
		request := strings.TrimSpace(c.Name + " " + c.Usage)
		help := c.Help
		for _, alias := range c.Aliases {
			help += fmt.Sprintf(" `%s` is the same.", alias)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", request, c.Reply, help)
	}
	return b.String()
}

func TestDocumentShowsTheTable(t *testing.T) {
	const path = "PROTOCOL.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := bytes.Cut(text, []byte(beginMark))
	table, tail, ended := bytes.Cut(rest, []byte(endMark))
	if !found || !ended {
		t.Fatalf("%s lacks the marks of its generated part", path)
	}
	if *update {
		whole := string(head) + beginMark + documented() + endMark + string(tail)
		if err := os.WriteFile(path, []byte(whole), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(table) != documented() {
		t.Errorf("%s differs from the command table; run: go test ./pkg/protocol -update", path)
	}
}

// Every fixed message is documented, so that clients can rely on it.
func TestDocumentShowsTheErrors(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*Error{
		ErrInvalidCommand, ErrMissingArguments, ErrTooManyArguments, ErrInvalidKey, ErrKeyTooLong,
		ErrInvalidValue, ErrInvalidArgument, ErrRequestTooLong, ErrValueTooLong,
		ErrValueNotPrintable, ErrStorageFull, ErrNotAuthorized, ErrTooManyConnections, ErrInternal,
		ErrConnectionFailed, ErrInterrupted, ReadOnly("..."), NotReady("..."), SyncFailed("..."),
	} {
		if !bytes.Contains(text, []byte("| `"+e.Message+"` |")) {
			t.Errorf("PROTOCOL.md has no row for %q", e.Message)
		}
	}
}
