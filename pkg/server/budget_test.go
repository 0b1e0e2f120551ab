package server

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// exhaust claims all of a budget, and what goes beyond it.
func exhaust(b *budget) *claim {
	c := new(claim)
	b.try(c, b.total+1)
	return c
}

func TestBudget(t *testing.T) {
	b := &budget{total: 100}
	var first, second, third claim
	if !b.try(&first, 100) || !b.try(&second, 500) || !b.try(&second, 10) {
		t.Fatal("one claim may go beyond the budget, and grow")
	}
	if b.try(&third, 1) || b.try(&first, 1) {
		t.Fatal("two claims are beyond the budget")
	}
	late := make(chan struct{})
	close(late)
	if b.wait(&third, 1, late, nil, nil) || b.contended() {
		t.Fatal("a claim that was late was granted, or waits on")
	}
	granted := make(chan bool, 2)
	go func() { granted <- b.wait(&third, 60, nil, nil, nil) }()
	go func() { granted <- b.wait(&first, 40, nil, nil, nil) }()
	b.release(&second)
	if !<-granted {
		t.Fatal("not granted")
	}
	b.release(&first)
	if !<-granted {
		t.Fatal("not granted")
	}
	b.release(&first)
	b.release(&third)
	if b.used != 0 || b.over != nil || b.contended() {
		t.Fatalf("%d bytes are left", b.used)
	}
}

// Without room for its answer a request does nothing; with it, it is done once.
func TestLargeAnswersWaitForRoom(t *testing.T) {
	big := strings.Repeat("v", keptValue+1)
	for request, want := range map[string]string{
		"GET big":       big,
		"MGET k big k":  "(null)\r\n" + big + "\r\n(null)",
		"APPEND big x":  big + "x",
		"PREPEND big x": "x" + big,
		"SCAN":          "KEYS 1001\r\n",
	} {
		store := newMemory()
		store.values["big"] = []byte(big)
		for i := range 1000 {
			store.values[fmt.Sprintf("key%04d", i)] = nil
		}
		s := newTestSession(store)
		other := exhaust(s.env.replies)
		feed(s, []byte(request+"\r\nPING\r\n"))
		if st := s.advance(); st != needRoom || s.need == 0 || len(store.values["big"]) != len(big) {
			t.Fatalf("%s: status %d, needs %d", request, st, s.need)
		}
		s.takeNeed()
		s.env.replies.release(other)
		out := ""
		for st := flushOutput; st == flushOutput; {
			st = s.advance()
			out += string(s.out)
			s.flushed()
		}
		if !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\r\nPONG\r\n") || s.tally.total != 2 {
			t.Errorf("%s: %d bytes for %d requests", request, len(out), s.tally.total)
		}
		if s.env.replies.used != 0 {
			t.Errorf("%s keeps %d bytes", request, s.env.replies.used)
		}
	}
}

// Clients that stall in the middle of long requests lose their memory to those
// that do not.
func TestStalledSendersGiveWay(t *testing.T) {
	withPipes(t, Limits{}, func(t *testing.T, s *Server, p *pipes) {
		s.input.total = 64 << 10
		for range 4 {
			go io.WriteString(p.dial(), "SET k "+strings.Repeat("x", 17<<10))
		}
		nc := p.dial()
		start := time.Now()
		go io.WriteString(nc, "SET k "+strings.Repeat("y", 20<<10)+"\r\n")
		got := make([]byte, len("OK\r\n"))
		if _, err := io.ReadFull(nc, got); err != nil || string(got) != "OK\r\n" {
			t.Fatalf("%q, %v", got, err)
		}
		if spent := time.Since(start); spent > DefaultConnectionTimeout {
			t.Errorf("waited for %v", spent)
		}
		nc.Close()
	})
}

// A reader that stalls loses the memory of its answer to those that wait.
func TestStalledReadersGiveWay(t *testing.T) {
	withPipes(t, Limits{}, func(t *testing.T, s *Server, p *pipes) {
		s.replies.total = 1
		say(t, p.dial(), "GET big\n")
		nc := p.dial()
		start := time.Now()
		say(t, nc, "GET big\n")
		if n, err := io.CopyN(io.Discard, nc, 200_002); err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if spent := time.Since(start); spent > DefaultConnectionTimeout/2 {
			t.Errorf("waited for %v", spent)
		}
		nc.Close()
	})
}

func TestNoRoomIsTold(t *testing.T) {
	withPipes(t, Limits{ConnectionTimeout: 10 * time.Second}, func(t *testing.T, s *Server, p *pipes) {
		exhaust(&s.input)
		exhaust(&s.replies)
		for _, request := range []string{"SET k " + strings.Repeat("x", 17<<10), "GET big\n"} {
			nc := p.dial()
			start := time.Now()
			go io.WriteString(nc, request)
			if got, err := io.ReadAll(nc); string(got) != "ERROR: Too many large requests\r\n" || err != nil {
				t.Errorf("told %q, %v", got, err)
			}
			within(t, time.Since(start), 10*time.Second)
		}
	})
}
