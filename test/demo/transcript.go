package main

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// transcript is what the demo prints: what it does, what nodes are asked, and what they answer.
type transcript struct {
	to    io.Writer
	began time.Time
}

func newTranscript(to io.Writer) *transcript { return &transcript{to: to, began: time.Now()} }

// say begins a part, with the seconds since the start.
func (t *transcript) say(format string, args ...any) {
	fmt.Fprintf(t.to, "\n%5.1f s  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
}

// note adds a line to a part.
func (t *transcript) note(format string, args ...any) {
	fmt.Fprintf(t.to, "         %s\n", fmt.Sprintf(format, args...))
}

// asked shows a request and what a node answered.
func (t *transcript) asked(node, request, answer string) {
	t.note("%s> %s", node, request)
	t.note("       %s", answer)
}

// figure adds a line to a table.
func (t *transcript) figure(name, value, remark string) {
	line := fmt.Sprintf("%-30s %12s", name, value)
	if remark != "" {
		line += "  " + remark
	}
	t.note("%s", line)
}

// grouped writes a number with commas between thousands; it is not negative.
func grouped[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	var out []byte
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out = append(out, ',')
		}
		out = append(out, digits[i])
	}
	return string(out)
}
