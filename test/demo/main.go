// Command demo shows the point of the product in about a minute, as a transcript: a write on one
// node is read on another; a node is cut off, both sides go on, and when it is back the two compare
// their trees and move only what differs. All figures are measured while it runs.
//
//	go run ./test/demo        (make demo builds the images first)
//
// It starts the repository's compose file as a project of its own on free ports and removes all of
// it in the end, also when it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// removeWithin bounds the clearing away, which an interruption does not end.
const removeWithin = 60 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "demo: interrupted")
			os.Exit(130)
		}
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	s, err := newStage()
	if err != nil {
		return err
	}
	if err := s.clear(ctx); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	out := newTranscript(os.Stdout)
	defer func() {
		out.say("removing the containers")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
		defer cancel()
		if left := s.down(ctx); left != nil {
			err = errors.Join(err, left)
			fmt.Fprintln(os.Stderr, "demo: not all is removed:", left)
		}
	}()
	d := demo{ctx: ctx, stage: s, out: out}
	for _, scene := range []func() error{
		d.start, d.writeAndRead, d.load, d.cutOff, d.writeOnBothSides, d.lose, d.heal, d.price, d.verdict,
	} {
		if err := scene(); err != nil {
			return err
		}
	}
	return nil
}
