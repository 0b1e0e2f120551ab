package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"merklekv/test/nodes"
)

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1_000: "1,000", 100_000: "100,000", 21_280_725: "21,280,725",
	} {
		if got := grouped(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestTotalTakesSessionsThatMovedSomethingSinceThen(t *testing.T) {
	session := func(number uint64, pulled, pushed int) nodes.Session {
		return nodes.Session{
			Number: number, Peer: nodes.Name(int(number)%3 + 1), Compared: 100, Differing: pulled + pushed, Pulled: pulled, Pushed: pushed,
			LinkIn: 1_000, LinkOut: 100, RoundTrips: 3, Millis: 1.5,
		}
	}
	got := total([]nodes.Session{session(5, 1, 0), session(4, 0, 0), session(3, 20, 30), session(2, 7, 7)}, 2)
	if got.count != 2 || got.compared != 200 || got.differing != 51 || got.moved != 51 || got.pulled != 21 ||
		got.roundTrips != 6 || got.bytes != 2_200 || got.millis != 3 || !slices.Equal(got.peers, []string{"node3", "node1"}) {
		t.Errorf("%+v", got)
	}
	if none := total([]nodes.Session{session(2, 1, 1), session(3, 0, 0)}, 2); none.count != 0 {
		t.Errorf("%+v, want none", none)
	}
}

func TestSize(t *testing.T) {
	if got := size(map[string]string{"key": "value", "empty": "", "": ""}); got != 13 {
		t.Errorf("%d, want 13", got)
	}
}

func TestTranscript(t *testing.T) {
	var out bytes.Buffer
	text := newTranscript(&out)
	text.say("%d keys", 3)
	text.asked("node1", "CONVERGED", "UNKNOWN settling")
	text.figure("round trips", "3", "")
	text.figure("bytes", "1,000", "both ways")
	for _, want := range []string{
		"s  3 keys\n", "         node1> CONVERGED\n                UNKNOWN settling\n",
		"         round trips                               3\n", "1,000  both ways\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestRootIsFoundFromAnyFolderInside(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "deploy", "compose.sh")); err != nil {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	if found, err := findRoot(); err == nil {
		t.Errorf("found %s outside of the repository", found)
	}
}

func TestProgramsEndWithTheirContext(t *testing.T) {
	s := &stage{root: t.TempDir(), env: os.Environ()}
	if out, err := s.run(t.Context(), "sh", "-c", "echo ' one line '; echo more >&2"); err != nil || out != "one line" {
		t.Errorf("%q (%v), want one line", out, err)
	}
	if _, err := s.run(t.Context(), "sh", "-c", "echo why >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a program that failed: %v, want what it said", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := s.run(ctx, "sleep", "60"); !errors.Is(err, context.Canceled) {
		t.Errorf("a program that was interrupted: %v", err)
	}
}

func TestUntilReturnsWhatWasWrongLast(t *testing.T) {
	d := demo{ctx: t.Context()}
	tries := 0
	err := d.until("three tries", func() error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wrong := errors.New("wrong")
	if err := (&demo{ctx: ctx}).until("it", func() error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v, want what was wrong", err)
	}
}
