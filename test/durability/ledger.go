package durability

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// step is one change of one key.
type step struct {
	key   string
	value string
	gone  bool // deleted: no value
}

// request is a line for the node, the reply that must come, and what it changes.
type request struct {
	line  string
	reply string
	steps []step
}

// ledger is what one connection knows of its own keys: how they were when it began,
// what it has sent since, and how much of that was acknowledged.
type ledger struct {
	name  string
	base  map[string]string
	sent  []step
	acked int // of sent

	state  map[string]string // base with all of sent
	writes int               // makes every value another
}

func newLedger(name string) *ledger {
	return &ledger{name: name, base: map[string]string{}, state: map[string]string{}}
}

const (
	// ownKeys is how many keys a connection has: few, so that most writes overwrite.
	ownKeys = 40
	// together is how many keys one MSET writes.
	together = 3
)

// padding makes values long; none of it can be taken for the beginning of one.
var padding = strings.Repeat("................", 4<<10)

// draw returns the next request of a connection whose values are padded to up to longest
// bytes, and takes it for sent.
func (l *ledger) draw(r *rand.Rand, longest int) request {
	key := l.key(r)
	held, there := l.state[key]
	switch r.IntN(10) {
	case 0, 1:
		reply := "NOT_FOUND"
		if there {
			reply = "DELETED"
		}
		return l.send(request{"DEL " + key, reply, []step{{key: key, gone: true}}})
	case 2:
		more := fmt.Sprintf("+%d", l.writes)
		if len(held) > 2*longest+100 {
			break // it has grown enough
		}
		return l.send(request{"APPEND " + key + " " + more, held + more, []step{{key: key, value: held + more}}})
	case 3:
		line, steps := "MSET", make([]step, together)
		for i := range steps {
			steps[i] = step{key: l.key(r), value: l.value(r, longest)}
			line += " " + steps[i].key + " " + steps[i].value
		}
		return l.send(request{line, "OK", steps})
	case 4:
		if there {
			return l.send(request{"GET " + key, held, nil})
		}
		return l.send(request{"GET " + key, "(null)", nil})
	}
	value := l.value(r, longest)
	return l.send(request{"SET " + key + " " + value, "OK", []step{{key: key, value: value}}})
}

func (l *ledger) key(r *rand.Rand) string { return fmt.Sprintf("%s:%d", l.name, r.IntN(ownKeys)) }

func (l *ledger) value(r *rand.Rand, longest int) string {
	l.writes++
	return fmt.Sprintf("%s/%d/%s", l.name, l.writes, padding[:r.IntN(longest+1)])
}

func (l *ledger) send(q request) request {
	l.writes++
	l.sent = append(l.sent, q.steps...)
	for _, s := range q.steps {
		s.apply(l.state)
	}
	return q
}

func (s step) apply(state map[string]string) {
	if s.gone {
		delete(state, s.key)
		return
	}
	state[s.key] = s.value
}

// survive compares what the node holds with what it must: the keys after some of the
// steps sent, none that was acknowledged missing. Then what it holds is what the next
// conversation begins with. It returns how many steps it still has that nobody had
// acknowledged.
func (l *ledger) survive(held map[string]string) (unasked int, err error) {
	state := map[string]string{}
	for key, value := range l.base {
		state[key] = value
	}
	for _, s := range l.sent[:l.acked] {
		s.apply(state)
	}
	wrong := differences(state, held)
	for next := l.acked; ; next++ {
		if len(wrong) == 0 {
			unasked = next - l.acked
			break
		}
		if next == len(l.sent) {
			return 0, l.complaint(held)
		}
		s := l.sent[next]
		s.apply(state)
		if same(state, held, s.key) {
			delete(wrong, s.key)
		} else {
			wrong[s.key] = true
		}
	}
	l.base, l.state, l.sent, l.acked = state, map[string]string{}, nil, 0
	for key, value := range state {
		l.state[key] = value
	}
	return unasked, nil
}

// differences are the keys that two states do not have in common.
func differences(a, b map[string]string) map[string]bool {
	wrong := map[string]bool{}
	for _, one := range []map[string]string{a, b} {
		for key := range one {
			if !same(a, b, key) {
				wrong[key] = true
			}
		}
	}
	return wrong
}

func same(a, b map[string]string, key string) bool {
	x, inA := a[key]
	y, inB := b[key]
	return inA == inB && x == y
}

// shown is how many keys a complaint names.
const shown = 3

// complaint says of some keys which step's value they have, for a state that no number
// of steps explains.
func (l *ledger) complaint(held map[string]string) error {
	newest := map[string]int{} // by key, the last acknowledged step
	for i, s := range l.sent[:l.acked] {
		newest[s.key] = i
	}
	var lines []string
	for i := range ownKeys {
		key := fmt.Sprintf("%s:%d", l.name, i)
		has := l.explain(key, held)
		must, written := newest[key]
		if written && has < must || has < -1 {
			lines = append(lines, fmt.Sprintf("%s is %s; step %d of it was acknowledged", key, describe(key, held, has), must))
		}
	}
	if len(lines) == 0 {
		return fmt.Errorf("%s: %d of %d steps acknowledged: each key alone is right, but they are of different moments: "+
			"the order of writes was not kept", l.name, l.acked, len(l.sent))
	}
	return fmt.Errorf("%s: %d of %d steps acknowledged, %d keys are wrong: %s", l.name, l.acked, len(l.sent), len(lines),
		strings.Join(lines[:min(shown, len(lines))], "; "))
}

// explain returns the last step that gives the key what is held of it; -1 is the state
// before the first one, -2 is no step at all.
func (l *ledger) explain(key string, held map[string]string) int {
	for i := len(l.sent) - 1; i >= 0; i-- {
		s := l.sent[i]
		value, there := held[key]
		if s.key == key && s.gone == !there && s.value == value {
			return i
		}
	}
	if same(l.base, held, key) {
		return -1
	}
	return -2
}

func describe(key string, held map[string]string, explained int) string {
	value, there := held[key]
	if !there {
		value = "not there"
	}
	switch explained {
	case -2:
		return fmt.Sprintf("%.60q, which was never written", value)
	case -1:
		return fmt.Sprintf("%.60q, as before this run", value)
	}
	return fmt.Sprintf("%.60q, of step %d", value, explained)
}
