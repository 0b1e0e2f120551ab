package replication

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"merklekv/pkg/internal/mqttlink"
)

// slowBroker acknowledges nothing until it is told to.
type slowBroker struct {
	codec *Codec
	acks  chan struct{}

	mu    sync.Mutex
	first []uint64 // sequence that each batch begins with
	heads int
}

func (b *slowBroker) Up() bool { return true }

func (b *slowBroker) Send(_ context.Context, topic string, _ bool, payload []byte) (func(context.Context) error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if topic == "heads" {
		b.heads++
	} else if m, err := b.codec.Open(payload); err != nil {
		return nil, err
	} else if batch, err := DecodeBatch(m); err != nil {
		return nil, err
	} else {
		b.first = append(b.first, batch.First)
	}
	return func(ctx context.Context) error {
		select {
		case <-b.acks:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}

func (b *slowBroker) batches() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.first)
}

// narrowBroker takes no message at all.
type narrowBroker struct{}

func (narrowBroker) Up() bool { return true }

func (narrowBroker) Send(context.Context, string, bool, []byte) (func(context.Context) error, error) {
	return nil, fmt.Errorf("publish: %w", mqttlink.ErrTooLarge)
}

func TestMessageThatIsTooLargeIsCounted(t *testing.T) {
	met, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	head := []byte("head")
	rep := newMapReplica(7, func() int64 { return coreWall }, 10)
	p := publisher{link: narrowBroker{}, rep: rep, batches: NewBatcher(rep, 0), met: met, instance: 7,
		alone: func() bool { return false }}
	p.head.Store(&head)
	p.publishAll(t.Context(), false)
	if got := valueOf(met.tooLarge); got != 1 {
		t.Fatalf("counted %v times", got)
	}
}

func TestPublisherDoesNotWaitForEachAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		met, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		codec := NewCodec("p", nil)
		rep := newMapReplica(7, func() int64 { return time.Now().UnixMilli() }, 1000)
		link := &slowBroker{codec: codec, acks: make(chan struct{})}
		p := &publisher{
			link: link, rep: rep, batches: NewBatcher(rep, 0), codec: codec, counter: new(atomic.Uint64), instance: 7,
			updates: "updates", heads: "heads", met: met, alone: func() bool { return false }, wake: make(chan struct{}, 1),
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx, t.Context()) }()
		const batches = 3 * inFlight
		for range batches {
			rep.set("k", make([]byte, MaxBody/2+1)) // two do not fit into one batch
		}
		head := []byte("head")
		p.head.Store(&head)
		p.poke()
		synctest.Wait()
		time.Sleep(time.Second) // of virtual time, for the publisher's pace
		synctest.Wait()
		if got := link.batches(); got != inFlight {
			t.Errorf("%d batches are out before the first is acknowledged, want %d", got, inFlight)
		}
		if link.heads != 0 {
			t.Error("the head is out before its changes")
		}
		close(link.acks)
		time.Sleep(time.Second)
		stop()
		<-done
		if link.batches() != batches || link.heads != 1 {
			t.Errorf("%d batches and %d heads, want %d and 1", link.batches(), link.heads, batches)
		}
		for i, first := range link.first {
			if first != uint64(i+1) {
				t.Fatalf("batch %d begins at %d", i, first)
			}
		}
		if got := valueOf(met.published); got != batches {
			t.Errorf("%v changes count as published, want %d", got, batches)
		}
	})
}

// Changes of a node without peers are published as far as that is cheap; with a
// peer, all of them are.
func TestPublisherSparesALonelyNode(t *testing.T) {
	for _, alone := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			met, err := newMetrics(nil)
			if err != nil {
				t.Fatal(err)
			}
			codec := NewCodec("p", nil)
			rep := newMapReplica(7, func() int64 { return time.Now().UnixMilli() }, 1<<20)
			link := &slowBroker{codec: codec, acks: make(chan struct{})}
			close(link.acks)
			p := &publisher{
				link: link, rep: rep, batches: NewBatcher(rep, 0), codec: codec, counter: new(atomic.Uint64), instance: 7,
				updates: "updates", heads: "heads", met: met, alone: func() bool { return alone }, wake: make(chan struct{}, 1),
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); p.run(ctx, t.Context()) }()
			const changes = 20 * onlookers
			for range changes {
				rep.set("k", nil)
			}
			p.poke()
			synctest.Wait()
			time.Sleep(time.Second) // of virtual time
			synctest.Wait()
			stop()
			<-done
			want := uint64(1)
			if alone {
				want = changes - onlookers + 1
			}
			if link.first[0] != want || p.batches.Pos() != rep.LogHead() {
				t.Errorf("alone %v: the first of %d changes published is %d, want %d; %d of the log were passed",
					alone, changes, link.first[0], want, p.batches.Pos())
			}
		})
	}
}
