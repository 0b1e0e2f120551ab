package mqttlink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The MQTT control packets that packetLimit looks at, by the upper half of their
// first byte.
const (
	typeConnack = 2
	typePublish = 3
	typeSuback  = 9
)

// oversizeTopic stands in for the topic of a message that was cut out of the
// stream. Nothing is published to a topic with a zero byte.
const oversizeTopic = "\x00oversize"

// maxControl is the greatest packet that is no PUBLISH, in bytes after its
// header: a SUBACK with a return code for each of a few hundred subscriptions.
const maxControl = 1024

// maxRefusal is the greatest return code of a CONNACK in MQTT 3.1.1.
const maxRefusal = 5

// maxTopic is the longest topic that is read, in bytes.
const maxTopic = 1024

var errMalformed = errors.New("broker sends what is not MQTT")

// packetLimit passes the packets of a broker on, except for messages that are
// too large: it passes an empty message of the same quality of service and packet
// id to oversizeTopic instead, so that the message is acknowledged and the broker
// does not send it again for ever. The MQTT library takes memory for whatever
// length a packet claims, therefore all lengths are checked here.
//
//	packet   = type and flags (1) | length (1 to 4, base 128, low first) | rest (length)
//	PUBLISH  : rest = topic length (2) | topic | packet id (2, if QoS > 0) | payload
//	SUBACK   : rest = packet id (2) | a return code for each subscription
type packetLimit struct {
	r          *bufio.Reader
	maxPayload int
	maxSuback  int // return codes
	onOversize func()

	left    int    // bytes of the current packet that are still to pass
	pending []byte // bytes that pass before those
}

func newPacketLimit(r io.Reader, maxPayload, maxSuback int, onOversize func()) *packetLimit {
	return &packetLimit{r: bufio.NewReaderSize(r, 32<<10), maxPayload: maxPayload, maxSuback: maxSuback, onOversize: onOversize}
}

// Read passes bytes of at most one packet.
func (l *packetLimit) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if l.left == 0 && len(l.pending) == 0 {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	if len(l.pending) > 0 {
		n := copy(p, l.pending)
		l.pending = l.pending[n:]
		return n, nil
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// next reads the header of a packet and decides what becomes of it.
func (l *packetLimit) next() error {
	first, err := l.r.ReadByte()
	if err != nil {
		return err
	}
	length, err := l.readLength()
	if err != nil {
		return err
	}
	switch first >> 4 {
	case typePublish:
		return l.publish(first, length)
	case typeConnack:
		// The library takes a return code that it does not know for success.
		if ack, err := l.r.Peek(2); length == 2 && err == nil && ack[1] > maxRefusal {
			return fmt.Errorf("broker refuses the connection with code %#02x", ack[1])
		}
	case typeSuback:
		if length > 2+l.maxSuback {
			return fmt.Errorf("%w: SUBACK with %d bytes for %d subscriptions", errMalformed, length, l.maxSuback)
		}
	}
	if length > maxControl {
		return fmt.Errorf("%w: control packet of %d bytes", errMalformed, length)
	}
	l.pass(first, length)
	return nil
}

// publish lets a message pass, or an empty one in its place.
func (l *packetLimit) publish(first byte, length int) error {
	if length <= l.maxPayload {
		l.pass(first, length)
		return nil
	}
	var size [2]byte
	if _, err := io.ReadFull(l.r, size[:]); err != nil {
		return err
	}
	topic := int(binary.BigEndian.Uint16(size[:]))
	head := topic
	if first>>1&3 > 0 {
		head += 2
	}
	if topic > maxTopic || 2+head > length {
		return fmt.Errorf("%w: topic of %d bytes", errMalformed, topic)
	}
	rest := make([]byte, head)
	if _, err := io.ReadFull(l.r, rest); err != nil {
		return err
	}
	payload := length - 2 - head
	if payload <= l.maxPayload {
		l.pass(first, length)
		l.pending = append(append(l.pending, size[:]...), rest...)
		l.left = payload
		return nil
	}
	if _, err := l.r.Discard(payload); err != nil {
		return err
	}
	l.onOversize()
	id := rest[topic:]
	l.pass(first, 2+len(oversizeTopic)+len(id))
	l.pending = binary.BigEndian.AppendUint16(l.pending, uint16(len(oversizeTopic)))
	l.pending = append(append(l.pending, oversizeTopic...), id...)
	l.left = 0
	return nil
}

// pass queues the header of a packet and lets its rest through.
func (l *packetLimit) pass(first byte, length int) {
	l.pending = appendLength(append(l.pending[:0], first), length)
	l.left = length
}

// readLength reads a remaining length: at most four bytes, so at most 2^28-1.
func (l *packetLimit) readLength() (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := l.r.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: length of more than four bytes", errMalformed)
}

func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}
