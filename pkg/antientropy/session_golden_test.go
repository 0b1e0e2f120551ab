package antientropy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"merklekv/pkg/kv"
)

var updateSession = flag.Bool("update-session", false, "rewrite the golden sessions")

// transcript returns all frames of a session, one a line.
func (p *sessionPair) transcript(t *testing.T) []byte {
	var out bytes.Buffer
	a, b := p.sessions()
	for !a.Done() || !b.Done() {
		from, to, name := a, b, "initiator"
		if b.Sending() {
			from, to, name = b, a, "responder"
		}
		ft, payload := from.Next()
		fmt.Fprintf(&out, "%s %s %x\n", name, ft, payload)
		if err := to.Receive(ft, payload); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// The frames of these sessions are the format: nodes of different builds repair
// each other.
func TestSessionGolden(t *testing.T) {
	for _, mode := range []Mode{Repair, Verify, Full} {
		shape := newSessionShape(150, userKey)
		p := &sessionPair{a: newTestReplica(shape), b: newTestReplica(shape), mode: mode}
		p.a.put(plainEntry("user:00000007", "newer at the initiator", at(1, 1)))
		p.b.put(plainEntry("user:00000070", "newer at the responder", at(1, 2)))
		p.a.put(kv.Entry{Key: []byte("user:00000071"), Version: at(2, 1), Flags: kv.Tombstone})
		p.b.put(kv.Entry{Facet: []byte("m|node"), Version: at(2, 2), Value: []byte("member")})
		p.a.put(plainEntry("large", string(bytes.Repeat([]byte("x"), pushInline)), at(1, 1)))
		got := p.transcript(t)
		path := filepath.Join("testdata", "session", mode.String()+".txt")
		if *updateSession {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: the format has changed:\n%s\nwas\n%s", mode, got, want)
		}
	}
}
