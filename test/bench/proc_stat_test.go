package main

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 250 75 0 0 20 0 4 0 12345 1000 2000\n"
	for _, comm := range []string{"(redis-server)", "(a b) c)", "())"} {
		got, err := parseStat([]byte("4711 " + comm + tail))
		if err != nil || got != 3250*time.Millisecond {
			t.Errorf("command %q: %v, %v", comm, got, err)
		}
	}
	for _, bad := range []string{"", "1 redis S 1", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a 75 0"} {
		if got, err := parseStat([]byte(bad)); !errors.Is(err, errProcFormat) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func TestParseResident(t *testing.T) {
	got, err := parseResident([]byte("Name:\tx\nVmHWM:\t  200 kB\nVmRSS:\t  123 kB\nThreads:\t1\n"))
	if err != nil || got != 123<<10 {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "VmRSS: 12", "VmRSS:\t12 MB\n", "VmRSS:\tx kB\n"} {
		if got, err := parseResident([]byte(bad)); !errors.Is(err, errProcFormat) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

// The kernel that the test runs on writes what the parsers read.
func TestOwnProcess(t *testing.T) {
	if rss, err := residentBytes(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("this process is resident with %d bytes, %v", rss, err)
	}
	if used, err := cpuTime(os.Getpid()); err != nil || used < 0 {
		t.Errorf("this process has used %v, %v", used, err)
	}
	if _, err := cpuTime(-1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("CPU time of no process: %v", err)
	}
}

func TestSumMetrics(t *testing.T) {
	sums := sumMetrics("# HELP a b\na{x=\"1 2\"} 3\na{x=\"}\"} 4.5\n\nb 1e3\nbad\nworse x\n")
	if len(sums) != 2 || sums["a"] != 7.5 || sums["b"] != 1000 {
		t.Errorf("%v", sums)
	}
}
