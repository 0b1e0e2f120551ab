package protocol

import (
	"strings"
	"testing"
)

func TestVerdictsAsClientsReadThem(t *testing.T) {
	for want, v := range map[string]Verdict{
		"EQUAL 12 07" + strings.Repeat("0", 62): {Equality: Equal, Epoch: 12, Root: [32]byte{7}, Reason: "x", Peers: []string{"n"}},
		"DIFFERENT n1 n%202":                    {Equality: Different, Epoch: 12, Reason: "x", Peers: []string{"n1", "n 2"}},
		"UNKNOWN unheard n1 [::1]:7878":         {Reason: "unheard", Peers: []string{"n1", "[::1]:7878"}},
		"UNKNOWN settling":                      {Epoch: 12, Reason: "settling"},
	} {
		if got := v.Equality.String() + " " + string(v.AppendDetails(nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A key may stand behind the first word, as in DEBUG KEY key.
func TestSecondKeyIsChecked(t *testing.T) {
	p := NewParser(1024)
	for line, want := range map[string]error{
		"DEBUG KEY k\n": nil,
		"DEBUG KEY " + strings.Repeat("k", 513) + "\n": ErrKeyTooLong,
		"DEBUG KEY \x01\n": ErrInvalidKey,
		"DEBUG \x01 k\n":   nil, // the handler refuses the word
	} {
		if _, _, err := p.Next([]byte(line)); err != want {
			t.Errorf("%.30q: %v, want %v", line, err, want)
		}
	}
}
