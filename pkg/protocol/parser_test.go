package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"merklekv/pkg/kv"
)

// testLimit is the request limit of these tests, in bytes.
const testLimit = 1024

// result is what a parser made of one request, with the error's text.
type result struct {
	name string
	args []string
	err  string
}

func (r result) String() string { return fmt.Sprintf("%s %q %s", r.name, r.args, r.err) }

// parseAll feeds the pieces one after the other, as a connection would, and
// returns what came out until the input or the framing was lost.
func parseAll(limit int, pieces ...[]byte) []result {
	p := NewParser(limit)
	var results []result
	var input []byte
	for _, piece := range pieces {
		input = append(input, piece...)
		for {
			req, n, err := p.Next(input)
			if n < 0 || n > len(input) {
				panic(fmt.Sprintf("took %d of %d bytes", n, len(input)))
			}
			input = append([]byte(nil), input[n:]...) // args must not need it
			if err == ErrIncomplete {
				break
			}
			results = append(results, resultOf(req, err))
			var e *Error
			if errors.As(err, &e) && e.Fatal {
				return results
			}
		}
	}
	return results
}

func resultOf(req Request, err error) result {
	r := result{}
	if req.Command != nil {
		r.name = req.Command.Name
	}
	for _, a := range req.Args {
		r.args = append(r.args, string(a))
	}
	if err != nil {
		r.err = err.Error()
	}
	return r
}

func TestParserTable(t *testing.T) {
	long := strings.Repeat("k", kv.MaxKeyLen)
	tests := []struct{ line, want string }{
		{"GET k", `GET ["k"] `},
		{"get k", `GET ["k"] `},
		{"  GeT   k  ", `GET ["k"] `},
		{"SET k v", `SET ["k" "v"] `},
		{"SET k  two  blanks ", `SET ["k" " two  blanks "] `},
		{"SET   k v", `SET ["k" "v"] `},
		{"SET k ", `SET ["k" ""] `},
		{"SET k", `SET [] Missing arguments`},
		{"SET", `SET [] Missing arguments`},
		{"SET ", `SET [] Missing arguments`},
		{`SET user:alice "Alice Johnson"`, `SET ["user:alice" "\"Alice Johnson\""] `},
		{`SET j {"a": [1, 2]}`, `SET ["j" "{\"a\": [1, 2]}"] `},
		{"SET grüße wörld ☃", `SET ["grüße" "wörld ☃"] `},
		{"SET k a\tb", `SET ["k" "a\tb"] `},
		{"SET k a\rb", `SET [] Invalid value`},
		{"SET k a\x00b", `SET [] Invalid value`},
		{"SET k a\xffb", `SET [] Invalid value`},
		{"SET k\tx v", `SET [] Invalid key`},
		{"SET k\xff v", `SET [] Invalid key`},
		{"SET ké\u0085 v", `SET [] Invalid key`},
		{"SET k\x7f v", `SET [] Invalid key`},
		{"GET k\x00", `GET [] Invalid key`},
		{"GET " + long, `GET ["` + long + `"] `},
		{"GET " + long + "k", `GET [] Key too long`},
		{"GET", `GET [] Missing arguments`},
		{"GET a b", `GET [] Too many arguments`},
		{"DELETE a b  c", `DEL ["a" "b" "c"] `},
		{"DEL", `DEL [] Missing arguments`},
		{"MSET a 1 b 2", `MSET ["a" "1" "b" "2"] `},
		{"MSET a 1 b", `MSET [] Missing arguments`},
		{"MSET a", `MSET [] Missing arguments`},
		{"MSET a 1 b\x01 2", `MSET [] Invalid key`},
		{"PING", `PING [] `},
		{"PING  a b ", `PING [" a b "] `},
		{"ECHO ", `ECHO [""] `},
		{"ECHO", `ECHO [] Missing arguments`},
		{"ECHO \xff", `ECHO [] Invalid value`},
		{"SCAN", `SCAN [] `},
		{"SCAN p CURSOR 0 COUNT 5", `SCAN ["p" "CURSOR" "0" "COUNT" "5"] `},
		{"SCAN 1 2 3 4 5 6", `SCAN [] Too many arguments`},
		{"DBSIZE now", `DBSIZE [] Too many arguments`},
		{"FROBNICATE", ` [] Invalid command`},
		{"GETT k", ` [] Invalid command`},
		{"\x00\x01\xff", ` [] Invalid command`},
		{"GET\tk", ` [] Invalid command`},
	}
	for _, tt := range tests {
		for _, end := range []string{"\r\n", "\n"} {
			got := parseAll(testLimit, []byte(tt.line+end))
			if len(got) != 1 || got[0].String() != tt.want {
				t.Errorf("%q: %v, want %s", tt.line+end, got, tt.want)
			}
		}
	}
}

func TestParserIgnoresEmptyLines(t *testing.T) {
	got := parseAll(testLimit, []byte("\r\n\n  \r\nPING\r\n\r\n"))
	if len(got) != 1 || got[0].name != "PING" {
		t.Fatalf("got %v", got)
	}
}

func TestParserTakesWhatItSkipped(t *testing.T) {
	p := NewParser(testLimit)
	_, n, err := p.Next([]byte("\r\n\r\nGE"))
	if n != 4 || err != ErrIncomplete {
		t.Fatalf("took %d bytes, %v", n, err)
	}
	req, n, err := p.Next([]byte("GET k\n"))
	if n != 6 || err != nil || req.Command.ID != CmdGet {
		t.Fatalf("took %d bytes, %v", n, err)
	}
}

func TestParserLimit(t *testing.T) {
	full := "ECHO " + strings.Repeat("x", testLimit-5)
	for _, end := range []string{"\n", "\r\n"} {
		if got := parseAll(testLimit, []byte(full+end)); len(got) != 1 || got[0].err != "" {
			t.Errorf("a full line ended by %q: %v", end, got)
		}
		got := parseAll(testLimit, []byte(full+"x"+end+"PING\n"))
		if len(got) != 1 || got[0].err != "Request too long" {
			t.Errorf("a line too long ended by %q: %v", end, got)
		}
	}
	endless := bytes.Repeat([]byte("x"), testLimit+2)
	if _, _, err := (&Parser{limit: testLimit}).Next(endless); err != ErrRequestTooLong {
		t.Errorf("a line without end: %v", err)
	}
	if _, _, err := (&Parser{limit: testLimit}).Next(endless[:testLimit+1]); err != ErrIncomplete {
		t.Errorf("a line that CR LF may still end: %v", err)
	}
}

func TestParserRefusesRESP(t *testing.T) {
	for _, text := range []string{"*", "*1\r\n$4\r\nPING\r\n", "\r\n*1"} {
		p := NewParser(testLimit)
		if _, _, err := p.Next([]byte(text)); err != ErrRESP {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParserBoundsWords(t *testing.T) {
	words := bytes.Repeat([]byte(" k"), MaxWords)
	line := append(append([]byte("MGET"), words...), '\n')
	if got := parseAll(len(line), line); len(got) != 1 || len(got[0].args) != MaxWords {
		t.Fatalf("%d results, first with %d words", len(got), len(got[0].args))
	}
	line = append(append([]byte("MGET"), words...), " k\n"...)
	if got := parseAll(len(line), line); len(got) != 1 || got[0].err != "Too many arguments" {
		t.Fatalf("one word more: %.100v", got)
	}
}

// A long line that arrives byte by byte is searched once, not once a byte.
func TestParserDoesNotSearchAgain(t *testing.T) {
	p := NewParser(testLimit)
	input := bytes.Repeat([]byte("x"), 500)
	p.Next(input)
	input[100] = '\n' // an end that a second search of the same bytes would find
	if _, n, err := p.Next(append(input, 'x')); n != 0 || err != ErrIncomplete {
		t.Fatalf("took %d bytes, %v", n, err)
	}
}

func TestParserAllocatesNothing(t *testing.T) {
	p := NewParser(testLimit)
	input := []byte("set user:1 some value\r\nGET user:1\r\n")
	n := testing.AllocsPerRun(1000, func() {
		_, used, err := p.Next(input)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = p.Next(input[used:]); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations for two requests", n)
	}
}

// pieces cuts data at the positions that cuts give, modulo what is left.
func pieces(data, cuts []byte) [][]byte {
	var parts [][]byte
	for _, c := range cuts {
		if len(data) == 0 {
			break
		}
		n := int(c) % (len(data) + 1)
		parts, data = append(parts, data[:n]), data[n:]
	}
	return append(parts, data)
}

func equalResults(a, b []result) bool {
	return slices.EqualFunc(a, b, func(x, y result) bool { return x.String() == y.String() })
}

func drawLine(t *rapid.T) string {
	word := rapid.StringMatching(`[A-Za-z0-9:é*]{0,6}`)
	name := rapid.SampledFrom([]string{"SET", "get", "DEL", "MSET", "PING", "ECHO", "SCAN", "", "X", "*1"}).Draw(t, "name")
	line := name
	for range rapid.IntRange(0, 5).Draw(t, "words") {
		line += rapid.SampledFrom([]string{" ", " ", "  "}).Draw(t, "blank") + word.Draw(t, "word")
	}
	return line + rapid.SampledFrom([]string{"\n", "\r\n", " \r\n", "\r\r\n"}).Draw(t, "end")
}

func TestAnySplitGivesTheSameRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := []byte(strings.Join(rapid.SliceOfN(rapid.Custom(drawLine), 1, 8).Draw(t, "lines"), ""))
		cuts := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "cuts")
		limit := rapid.IntRange(8, 64).Draw(t, "limit")
		whole := parseAll(limit, data)
		if split := parseAll(limit, pieces(data, cuts)...); !equalResults(whole, split) {
			t.Fatalf("whole %v\nsplit %v", whole, split)
		}
	})
}

func TestRequestsSurviveTheLine(t *testing.T) {
	key := rapid.StringMatching(`[!-~é☃]{1,40}`)
	value := rapid.StringMatching(`[ -~é☃\t"]{0,60}`)
	rapid.Check(t, func(t *rapid.T) {
		k, v := key.Draw(t, "key"), value.Draw(t, "value")
		got := parseAll(testLimit, []byte("SET "+k+" "+v+"\r\n"))
		if len(got) != 1 || got[0].err != "" || got[0].args[0] != k || got[0].args[1] != v {
			t.Fatalf("SET %q %q became %v", k, v, got)
		}
	})
}

func FuzzParser(f *testing.F) {
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		whole := parseAll(testLimit, data)
		if split := parseAll(testLimit, pieces(data, cuts)...); !equalResults(whole, split) {
			t.Fatalf("whole %v\nsplit %v", whole, split)
		}
		for _, r := range whole {
			checkRequest(t, r)
		}
	})
}

// checkRequest checks what holds of every request that came without an error.
func checkRequest(t *testing.T, r result) {
	if r.err != "" {
		return
	}
	c := Lookup([]byte(r.name))
	if c == nil {
		t.Fatalf("request of no command: %v", r)
	}
	if err := c.CheckArity(len(r.args)); err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	for i, arg := range r.args {
		if c.IsKey(i) && CheckKey([]byte(arg)) != nil || !IsText([]byte(arg)) {
			t.Fatalf("%v: argument %d is not allowed", r, i)
		}
	}
}

func TestFuzzCorpusIsThere(t *testing.T) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzParser")
	if err != nil || len(seeds) < 10 {
		t.Fatalf("%d seeds, %v", len(seeds), err)
	}
}

func BenchmarkParser(b *testing.B) {
	p := NewParser(1 << 20)
	line := []byte("SET key:000000000001 " + strings.Repeat("v", 64) + "\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := p.Next(line); err != nil {
			b.Fatal(err)
		}
	}
}
