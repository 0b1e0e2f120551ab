package cluster

import (
	"fmt"
	"strings"
	"testing"
)

func TestWritesOnEveryNodeReachEveryOther(t *testing.T) {
	c := shared(t)
	all := map[string]*string{}
	for _, from := range c.All() {
		for i := range 50 {
			key, value := fmt.Sprintf("every:%s:%d", from.Name, i), fmt.Sprintf("from %s", from.Name)
			write(t, from, "OK", "SET "+key+" "+value)
			all[key] = &value
		}
	}
	for _, at := range c.All() {
		holds(t, at, all)
	}
}

func TestDeleteReachesEveryNode(t *testing.T) {
	c := shared(t)
	value := "here"
	write(t, c.Node(1), "OK", "SET deleted:key "+value)
	for _, at := range c.All() {
		holds(t, at, map[string]*string{"deleted:key": &value})
	}
	write(t, c.Node(3), "DELETED", "DEL deleted:key")
	for _, at := range c.All() {
		holds(t, at, map[string]*string{"deleted:key": nil})
	}
	if reply := mustDo(t, c.Node(2), "DEL deleted:key"); reply != "NOT_FOUND" {
		t.Errorf("DEL of a key that another node deleted answered %q, want NOT_FOUND", reply)
	}
}

func TestValuesArriveByteForByte(t *testing.T) {
	c := shared(t)
	values := map[string]string{
		"bytes:quotes":   `"Alice Johnson"`,
		"bytes:blanks":   "  two before, two  within, two after  ",
		"bytes:tabs":     "a\tb\t",
		"bytes:json":     `{"name": "Ana", "tags": ["a", "b"], "n": 1.5e3, "s": "\u00e9\\\""}`,
		"bytes:utf8":     "naïve – Ελληνικά 日本語 🙂 \u202ertl",
		"bytes:long":     strings.Repeat("0123456789abcdef", 4096),
		"bytes:command":  "GET bytes:utf8",
		"bytes:комната":  "a key that is not ASCII",
		"bytes:combined": "e\u0301 is not \u00e9",
	}
	want := map[string]*string{}
	for key, value := range values {
		write(t, c.Node(2), "OK", "SET "+key+" "+value)
		want[key] = &value
	}
	for _, at := range c.All() {
		holds(t, at, want)
	}
}

func TestShutdownIsRefused(t *testing.T) {
	c := shared(t)
	for _, n := range c.All() {
		if reply := mustDo(t, n, "SHUTDOWN"); !strings.HasPrefix(reply, "ERROR: ") {
			t.Errorf("SHUTDOWN on %s answered %q, want an error", n.Name, reply)
		}
		if reply := mustDo(t, n, "PING"); reply != "PONG" {
			t.Errorf("PING on %s after a refused SHUTDOWN answered %q, want PONG", n.Name, reply)
		}
	}
}
