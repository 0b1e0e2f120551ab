package mqttlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func TestNewReportsEverything(t *testing.T) {
	_, err := New(Options{
		BrokerURL: "ws://h", KeepAlive: time.Millisecond, Silence: -1, Window: 1 << 20,
		Subscriptions: []string{"a/#/b"}, Will: func() Message { return Message{Topic: "a/+"} }, MaxBackoff: time.Millisecond,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"scheme", "client id", "keep-alive", "silence", "window", "a/#/b", "will", "back-off"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a/b", "a/b", true}, {"a/b", "a", false}, {"a", "a/b", false},
		{"a/+", "a/b", true}, {"a/+", "a/b/c", false}, {"a/+", "a", false}, {"a/+/c", "a/b/c", true},
		{"a/#", "a/b/c", true}, {"a/#", "a", true}, {"#", "a/b", true}, {"a/#", "b", false}, {"+", "a", true},
	}
	for _, tt := range tests {
		if got := matches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.filter, tt.topic, got)
		}
	}
}

func TestValidFilter(t *testing.T) {
	for f, want := range map[string]bool{
		"a": true, "a/#": true, "#": true, "+/a": true, "a//b": true,
		"": false, "a#": false, "#/a": false, "a+/b": false, "a\x00": false,
	} {
		if got := validFilter(f); got != want {
			t.Errorf("%q: %v", f, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	o := Options{MinBackoff: 100 * time.Millisecond, MaxBackoff: 5 * time.Second}
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.Float64Range(0, 0.999999).Draw(t, "rand")
		o.Rand = func() float64 { return r }
		b := newBackoff(o)
		full := o.MinBackoff
		for range rapid.IntRange(1, 100).Draw(t, "failures") {
			if d := b.next(); d > full || d < full/2 {
				t.Fatalf("wait %v is not from %v to %v", d, full/2, full)
			}
			full = min(2*full, o.MaxBackoff)
		}
		b.reset()
		if d := b.next(); d > o.MinBackoff {
			t.Fatalf("wait %v after reset", d)
		}
	})
}

// publishPacket encodes a PUBLISH as MQTT 3.1.1, section 3.3, draws it.
func publishPacket(topic string, qos byte, id uint16, payload []byte) []byte {
	rest := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	rest = append(rest, topic...)
	if qos > 0 {
		rest = binary.BigEndian.AppendUint16(rest, id)
	}
	rest = append(rest, payload...)
	return append(appendLength([]byte{typePublish<<4 | qos<<1}, len(rest)), rest...)
}

func TestLimitPassesAndReplaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 300
		var in, want []byte
		oversize := 0
		for range rapid.IntRange(0, 8).Draw(t, "packets") {
			topic := rapid.StringMatching(`[a-z/]{1,200}`).Draw(t, "topic")
			qos := byte(rapid.IntRange(0, 1).Draw(t, "qos"))
			size := rapid.IntRange(0, 2*limit).Draw(t, "size")
			packet := publishPacket(topic, qos, 7, bytes.Repeat([]byte{'x'}, size))
			in = append(in, packet...)
			if size > limit {
				oversize++
				packet = publishPacket(oversizeTopic, qos, 7, nil)
			}
			want = append(want, packet...)
			in, want = append(in, 0xd0, 0), append(want, 0xd0, 0) // PINGRESP
		}
		counted := 0
		l := newPacketLimit(iotest.OneByteReader(bytes.NewReader(in)), limit, 1, func() { counted++ })
		got, err := io.ReadAll(l)
		if err != nil || !bytes.Equal(got, want) || counted != oversize {
			t.Fatalf("got % x, want % x, %d of %d oversize, %v", got, want, counted, oversize, err)
		}
	})
}

func TestLimitRefuses(t *testing.T) {
	for name, in := range map[string][]byte{
		"length of five bytes":   {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
		"huge control packet":    {0xd0, 0xff, 0xff, 0xff, 0x7f},
		"long SUBACK":            {0x90, 4, 0, 1, 0, 0},
		"topic beyond packet":    append([]byte{0x30, 0x80, 0x10, 0x0f, 0xff}, make([]byte, 4096)...),
		"topic beyond the limit": append([]byte{0x30, 0x80, 0x20, 0x08, 0x00}, make([]byte, 4096)...),
	} {
		l := newPacketLimit(bytes.NewReader(in), 100, 1, func() {})
		if _, err := io.Copy(io.Discard, l); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPacketLimit(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzPacketLimit/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	if _, err := os.Stat(seeds[0]); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 64
		l := newPacketLimit(bytes.NewReader(in), limit, 1, func() {})
		out, _ := io.ReadAll(l) // what is wrong is an error, never a panic
		for len(out) > 0 {
			n, length, head := 0, 0, 1
			for ; head < len(out); head++ {
				length |= int(out[head]&0x7f) << n
				n += 7
				if out[head] < 0x80 {
					head++
					break
				}
			}
			if length > 2+maxTopic+2+limit {
				t.Fatalf("a packet of %d bytes passed", length)
			}
			out = out[min(len(out), head+length):]
		}
	})
}
