package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // a run could not be made, a reply was wrong, a bound was missed
	exitUsage  = 2
)

// errBound is returned when the runs went well and a figure misses its bound.
var errBound = errors.New("a figure misses its bound")

// scenario is one thing that can be measured.
type scenario struct {
	name string
	run  func(context.Context, *bench) error
}

// scenarios lists them in the order in which "all" runs them. Not part of "all"
// are load and up: one needs a server that already runs, the other the images.
var scenarios = []scenario{
	{"redis", runRedis},
	{"memory", runMemory},
	{"index", runIndex},
	{"durable", runDurable},
	{"start", runStart},
	{"disk", runDisk},
	{"latency", runLatency},
	{"sustain", runSustain},
	{"load", runPlainLoad},
	{"up", runUp},
}

// bench is one invocation: what was asked for, and where figures go.
type bench struct {
	options
	out io.Writer
	dir string // temporary, of this invocation
	bin string // merklekv, empty until it is needed
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

// verdict prints whether a figure is within its bound. A miss is an error only
// with -check.
func (b *bench) verdict(ok bool, format string, args ...any) error {
	word := "PASS"
	if !ok {
		word = "MISS"
	}
	b.printf("%s  %s\n", word, fmt.Sprintf(format, args...))
	if !ok && b.check {
		return errBound
	}
	return nil
}

// merklekv returns the path of the program, which is built once.
func (b *bench) merklekv(ctx context.Context) (string, error) {
	var err error
	if b.bin == "" {
		b.bin, err = binary(ctx, b.given, b.dir)
	}
	return b.bin, err
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	opts, names, err := parseOptions(args, errOut)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(errOut, "bench: %v\nbench --help lists scenarios and flags\n", err)
		return exitUsage
	}
	dir, err := os.MkdirTemp("", "merklekv-bench-")
	if err != nil {
		fmt.Fprintf(errOut, "bench: %v\n", err)
		return exitFailed
	}
	defer os.RemoveAll(dir)
	b := &bench{options: opts, out: out, dir: dir}
	b.printf("command  go run ./test/bench %s\n%s\n", strings.Join(args, " "), machine(ctx))
	return b.runAll(ctx, names, errOut)
}

// runAll runs the named scenarios, each whatever became of the one before.
func (b *bench) runAll(ctx context.Context, names []string, errOut io.Writer) int {
	code := exitOK
	for _, s := range scenarios {
		if !slices.Contains(names, s.name) {
			continue
		}
		b.printf("\n== %s (%s)\n", s.name, time.Now().UTC().Format(time.RFC3339))
		if err := s.run(ctx, b); err != nil {
			fmt.Fprintf(errOut, "bench: %s: %v\n", s.name, err)
			code = exitFailed
		}
		if ctx.Err() != nil {
			return exitFailed
		}
	}
	return code
}
