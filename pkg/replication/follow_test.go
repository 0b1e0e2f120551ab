package replication

import (
	"context"
	"errors"
	"strings"
	"testing"

	"merklekv/pkg/internal/poll"
)

// following runs Follow until the test ends.
func following(t *testing.T, o FollowOptions, fn func(*Heard) error) (result chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result = make(chan error, 1)
	connected := make(chan struct{}, 10)
	o.OnState = func(up bool, _ error) {
		if up {
			connected <- struct{}{}
		}
	}
	go func() { result <- Follow(ctx, o, fn) }()
	<-connected
	return result, cancel
}

func TestFollowHearsAllThatNodesTell(t *testing.T) {
	b := startBroker(t)
	nodes := startThree(t, []string{b.addr}, "secret")
	const writes = 300
	changes, names, heads := 0, make(map[string]bool), make(map[string]bool)
	enough := errors.New("enough")
	o := FollowOptions{Broker: b.addr, ClientID: "follower", Prefix: "test", Secret: []byte("secret"), Heads: true,
		OnDropped: func(topic string, why error) { t.Errorf("dropped on %s: %v", topic, why) }}
	result, stop := following(t, o, func(h *Heard) error {
		switch {
		case h.Presence != nil:
			names[h.Presence.NodeID] = true
		case h.Head != nil:
			heads[h.Head.NodeID] = true
		default:
			changes += len(h.Batch.Changes)
		}
		if changes >= writes && len(names) == 3 && len(heads) == 3 {
			return enough
		}
		return nil
	})
	defer stop()
	write(nodes, 0, writes)
	if err := <-result; !errors.Is(err, enough) || changes != writes {
		t.Errorf("Follow returned %v after %d changes", err, changes)
	}
}

// A follower with a secret shows nothing that was not signed with it, and says so.
func TestFollowDropsWhatIsNotSigned(t *testing.T) {
	for _, tc := range []struct {
		theirs string
		want   error
	}{{"another secret", ErrForged}, {"", ErrUnsigned}} {
		b := startBroker(t)
		startThree(t, []string{b.addr}, tc.theirs)
		dropped := make(chan error, 100)
		o := FollowOptions{Broker: b.addr, ClientID: "follower", Prefix: "test", Secret: []byte("secret"), Heads: true}
		o.OnDropped = func(topic string, why error) {
			if !strings.HasPrefix(topic, "test/") {
				t.Errorf("dropped on %s", topic)
			}
			select {
			case dropped <- why:
			default:
			}
		}
		result, stop := following(t, o, func(h *Heard) error { return errors.New("something is shown") })
		if err := <-dropped; !errors.Is(err, tc.want) {
			t.Errorf("dropped for %v, want %v", err, tc.want)
		}
		stop()
		if err := <-result; err != nil {
			t.Errorf("Follow returned %v", err)
		}
	}
}

// Where the broker is away Follow says why, dials again, and ends when it is told
// to.
func TestFollowWithoutABroker(t *testing.T) {
	ln := listen(t)
	address := ln.Addr().String()
	ln.Close()
	reasons := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	o := FollowOptions{Broker: address, ClientID: "follower", Prefix: "test", OnState: func(up bool, why error) {
		select {
		case reasons <- why:
		default:
		}
	}}
	result := make(chan error, 1)
	go func() { result <- Follow(ctx, o, func(*Heard) error { return nil }) }()
	poll.Until(t, patience, func() bool { return len(reasons) > 0 }, "Follow says that the broker is away")
	if why := <-reasons; why == nil || !strings.Contains(why.Error(), address) {
		t.Errorf("the reason is %v", why)
	}
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Follow returned %v", err)
	}
	if err := Follow(t.Context(), FollowOptions{Broker: "http://x", ClientID: "f", Prefix: "p"}, nil); err == nil {
		t.Error("a broker that is none is taken")
	}
}
