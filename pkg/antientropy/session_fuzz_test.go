package antientropy

import (
	"encoding/binary"
	"errors"
	"testing"

	"merklekv/pkg/protocol"
)

// appendSaid puts a frame into a fuzzer's input: type, two bytes of length, payload.
func appendSaid(dst []byte, f said) []byte {
	return append(binary.BigEndian.AppendUint16(append(dst, byte(f.t)), uint16(len(f.payload))), f.payload...)
}

// seedSessions adds what the peer of each role says in real sessions.
func seedSessions(f *testing.F) {
	for mode := range Full + 1 {
		p := &sessionPair{a: newTestReplica(fuzzShape), b: newTestReplica(fuzzShape), mode: mode}
		p.scatter(fuzzShape, 20, false)
		a, b := p.sessions()
		var heard [2][]byte
		for !a.Done() || !b.Done() {
			from, to, role := a, b, 0
			if b.Sending() {
				from, to, role = b, a, 1
			}
			t, payload := from.Next()
			if len(payload) < 1<<16 {
				heard[role] = appendSaid(heard[role], said{t, payload})
			}
			if err := to.Receive(t, payload); err != nil {
				f.Fatal(err)
			}
		}
		for role, in := range heard {
			f.Add(role == 1, byte(mode), in)
		}
	}
}

var fuzzShape = newSessionShape(300, userKey)

// No peer makes a session panic, keep much, or go on after an error.
func FuzzSessionReceive(f *testing.F) {
	seedSessions(f)
	f.Fuzz(func(t *testing.T, initiator bool, mode byte, in []byte) {
		r := newTestReplica(fuzzShape)
		s := NewSession(SessionOptions{Initiator: initiator, Mode: Mode(mode % 3), Tree: r.tree, Replica: r, Root: r.root})
		frames := 0
		for len(in) >= 3 {
			for s.Sending() {
				ft, payload := s.Next()
				header := [protocol.FrameHeaderLen]byte(protocol.AppendFrameHeader(nil, ft, len(payload)))
				if _, _, err := protocol.ParseFrameHeader(header); err != nil {
					t.Fatal(err)
				}
				if frames++; frames > 10_000 {
					t.Fatal("it says too much")
				}
			}
			n := min(int(binary.BigEndian.Uint16(in[1:])), len(in)-3)
			ft, payload := protocol.FrameType(in[0]), in[3:3+n]
			in = in[3+n:]
			err := s.Receive(ft, payload)
			if err == nil {
				continue
			}
			if !errors.Is(err, protocol.ErrPeerMalformed) && !errors.Is(err, protocol.ErrFrameType) {
				t.Fatalf("error without a kind: %v", err)
			}
			if s.Sending() || s.Done() {
				t.Fatal("it goes on after an error")
			}
			return
		}
		if mode%3 == byte(Verify) && r.applied > 0 {
			t.Fatal("a verification changed something")
		}
		if s.todo.held > maxHeld || s.disputes > maxHeld {
			t.Fatal("it keeps too much")
		}
	})
}
