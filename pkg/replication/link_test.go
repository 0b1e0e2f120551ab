package replication

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"merklekv/pkg/protocol"
)

// linkPair returns both ends of a link, whose timeouts are those of a test's bubble.
func linkPair(t *testing.T) (sender, receiver *Link) {
	a, b := net.Pipe()
	sender, receiver = newLink(t.Context(), a, nil), newLink(t.Context(), b, nil)
	t.Cleanup(sender.Close)
	t.Cleanup(receiver.Close)
	return sender, receiver
}

// every returns a wait of so long for each piece, which notes their lengths.
func every(d time.Duration, pieces *[]int) func(int) error {
	return func(n int) error {
		time.Sleep(d) // of the bubble
		*pieces = append(*pieces, n)
		return nil
	}
}

func TestSlowFrameArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linkPair(t)
		payload := bytes.Repeat([]byte("a value"), protocol.SyncFrameSize/7)
		sent, pieces, begin := make(chan error, 1), []int(nil), time.Now()
		go func() { sent <- a.SendPaced(protocol.FramePush, payload, every(sessionTimeout-1, &pieces)) }()
		got, text, err := b.Receive(protocol.FramePush)
		if err != nil || got != protocol.FramePush || !bytes.Equal(text, payload) {
			t.Fatalf("%v of %d bytes, %v", got, len(text), err)
		}
		if took := time.Since(begin); took < 16*(sessionTimeout-1) {
			t.Errorf("it took %v only", took)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		total := 0
		for _, n := range pieces {
			total += n
			if n > 16<<10 {
				t.Errorf("a piece of %d bytes", n)
			}
		}
		if want := protocol.FrameHeaderLen + len(payload); total != want || a.Out() != int64(want) || b.In() != int64(want) {
			t.Errorf("%d bytes were waited for, %d sent and %d received, not %d", total, a.Out(), b.In(), want)
		}
	})
}

func TestEmptyFrameIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linkPair(t)
		var pieces []int
		go a.SendPaced(protocol.FrameTurn, nil, every(0, &pieces))
		if _, text, err := b.Receive(protocol.FrameTurn); err != nil || len(text) != 0 {
			t.Fatalf("%q, %v", text, err)
		}
		synctest.Wait()
		if len(pieces) != 1 || pieces[0] != protocol.FrameHeaderLen {
			t.Errorf("pieces %v", pieces)
		}
	})
}

func TestStalledFrameFails(t *testing.T) {
	payload := make([]byte, protocol.SyncFrameSize)
	synctest.Test(t, func(t *testing.T) { // who sends stalls
		a, b := linkPair(t)
		n, sent := 0, make(chan error)
		go func() {
			sent <- a.SendPaced(protocol.FramePush, payload, func(int) error {
				if n++; n == 3 {
					time.Sleep(sessionTimeout + 1)
				}
				return nil
			})
		}()
		begin := time.Now()
		if _, _, err := b.Receive(protocol.FramePush); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(begin); took != sessionTimeout {
			t.Errorf("after %v", took)
		}
		b.Close()
		if err := <-sent; err == nil {
			t.Error("sent to nobody")
		}
	})
	synctest.Test(t, func(t *testing.T) { // who receives takes nothing
		a, _ := linkPair(t)
		begin := time.Now()
		if err := a.SendPaced(protocol.FramePush, payload, func(int) error { return nil }); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(begin); took != sessionTimeout || a.Out() != 0 {
			t.Errorf("after %v and %d bytes", took, a.Out())
		}
	})
	synctest.Test(t, func(t *testing.T) { // it is called off
		a, b := linkPair(t)
		go b.Receive(protocol.FramePush)
		off := errors.New("called off")
		if err := a.SendPaced(protocol.FramePush, payload, func(int) error { return off }); err != off {
			t.Errorf("the error is %v", err)
		}
		b.Close()
	})
}

// The frames of pulls have a time for each as a whole, also after a session.
func TestFrameOfAPullMayNotDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linkPair(t)
		pieces, sent := []int(nil), make(chan error)
		go func() {
			a.Send(protocol.FrameTurn, nil)
			sent <- a.SendPaced(protocol.FrameEntries, make([]byte, protocol.EntriesFrameSize), every(frameTimeout/2, &pieces))
		}()
		if _, _, err := b.Receive(protocol.FrameTurn); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, _, err := b.read(frameTimeout, protocol.FrameEntries); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(begin); took != frameTimeout {
			t.Errorf("after %v", took)
		}
		b.Close()
		if err := <-sent; err == nil {
			t.Error("sent to nobody")
		}
	})
}
