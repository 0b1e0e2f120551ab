package replication

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/s2"

	"merklekv/pkg/protocol"
)

// FormatVersion is the version of every message on MQTT.
const FormatVersion = 1

// Kind says what a message on MQTT is.
type Kind uint8

const (
	KindBatch    Kind = 1
	KindHead     Kind = 2
	KindPresence Kind = 3
	KindAsk      Kind = 4 // asks for heads at once; without a body
)

const (
	// MaxBody bounds the body of a message before compression, in bytes.
	MaxBody = 256 << 10
	// MaxMessage bounds a whole message, in bytes.
	MaxMessage = MaxBody + 512
	// compressFrom is the size from which a body is worth compressing.
	compressFrom = 512
)

// Reasons for which a message is dropped. Each has its own label in metrics.
var (
	ErrMalformed = errors.New("malformed message")
	ErrVersion   = errors.New("message of another format version")
	ErrUnsigned  = errors.New("message without a signature")
	ErrForged    = errors.New("message with a wrong signature")
	ErrOversize  = errors.New("message above the size limit")
)

// envelope is the outside of every message.
type envelope struct {
	Version    uint64 `cbor:"1,keyasint"`
	Kind       Kind   `cbor:"2,keyasint"`
	Instance   uint64 `cbor:"3,keyasint"` // of the sender
	Counter    uint64 `cbor:"4,keyasint"` // grows with each message of the sender
	Compressed bool   `cbor:"5,keyasint"`
	Body       []byte `cbor:"6,keyasint"`
	MAC        []byte `cbor:"7,keyasint,omitempty"`
}

// Codec seals and opens the messages of one cluster.
type Codec struct {
	prefix string
	secret []byte
	own    uint64 // instance whose batches nobody here reads; 0 for none
}

// NewCodec returns the codec of the cluster with a topic prefix. With a secret,
// messages are signed, and others are refused.
func NewCodec(prefix string, secret []byte) *Codec { return &Codec{prefix: prefix, secret: secret} }

// Seal returns the message around a body.
func (c *Codec) Seal(kind Kind, instance, counter uint64, body []byte) []byte {
	e := envelope{Version: FormatVersion, Kind: kind, Instance: instance, Counter: counter, Body: body}
	if len(body) >= compressFrom {
		if packed := s2.Encode(nil, body); len(packed) < len(body) {
			e.Compressed, e.Body = true, packed
		}
	}
	if len(c.secret) > 0 {
		e.MAC = c.sign(&e)
	}
	return protocol.EncodeCBOR(&e)
}

// sign returns the HMAC-SHA256 over all that e says, the cluster included.
func (c *Codec) sign(e *envelope) []byte {
	m := hmac.New(sha256.New, c.secret)
	h := binary.BigEndian.AppendUint32([]byte("merklekv message"), uint32(len(c.prefix)))
	h = append(append(h, c.prefix...), byte(e.Version), byte(e.Kind))
	h = binary.BigEndian.AppendUint64(h, e.Instance)
	h = binary.BigEndian.AppendUint64(h, e.Counter)
	if e.Compressed {
		h = append(h, 1)
	} else {
		h = append(h, 0)
	}
	h = binary.BigEndian.AppendUint32(h, uint32(len(e.Body)))
	m.Write(h)
	m.Write(e.Body)
	return m.Sum(nil)
}

// Message is an opened message.
type Message struct {
	Kind     Kind
	Instance uint64
	Counter  uint64
	Body     []byte
}

// Open checks a message and returns what is in it, which for one's own batches is
// nothing. Its errors wrap one of the reasons above.
func (c *Codec) Open(b []byte) (*Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrOversize, len(b))
	}
	version, err := protocol.DecodeVersion(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if version != FormatVersion {
		return nil, fmt.Errorf("%w: %d, this node speaks %d", ErrVersion, version, FormatVersion)
	}
	var e envelope
	if err := protocol.DecodeCBOR(b, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(c.secret) > 0 {
		if len(e.MAC) == 0 {
			return nil, ErrUnsigned
		}
		if !hmac.Equal(e.MAC, c.sign(&e)) {
			return nil, ErrForged
		}
	}
	if e.Instance == 0 {
		return nil, fmt.Errorf("%w: no instance", ErrMalformed)
	}
	if e.Kind == KindBatch && e.Instance == c.own {
		return &Message{Kind: e.Kind, Instance: e.Instance, Counter: e.Counter}, nil
	}
	body, err := unpack(&e)
	if err != nil {
		return nil, err
	}
	return &Message{Kind: e.Kind, Instance: e.Instance, Counter: e.Counter, Body: body}, nil
}

// unpack returns the body, decompressed, after looking at its size.
func unpack(e *envelope) ([]byte, error) {
	if !e.Compressed {
		if len(e.Body) > MaxBody {
			return nil, fmt.Errorf("%w: body of %d bytes", ErrOversize, len(e.Body))
		}
		return e.Body, nil
	}
	n, err := s2.DecodedLen(e.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if n > MaxBody {
		return nil, fmt.Errorf("%w: body of %d bytes when decompressed", ErrOversize, n)
	}
	body, err := s2.Decode(nil, e.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return body, nil
}

// batchBody is a run of own changes of one instance.
type batchBody struct {
	First   uint64          `cbor:"1,keyasint"` // sequence of the first entry
	Entries cbor.RawMessage `cbor:"2,keyasint"` // see package protocol
}

// Batch is a run of consecutive changes of one instance.
type Batch struct {
	Instance uint64
	First    uint64
	Changes  []protocol.DecodedChange
}

// Last returns the sequence of the last change.
func (b *Batch) Last() uint64 { return b.First + uint64(len(b.Changes)) - 1 }

// DecodeBatch reads the body of a batch.
func DecodeBatch(m *Message) (*Batch, error) {
	var body batchBody
	if err := protocol.DecodeCBOR(m.Body, &body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	changes, err := protocol.DecodeEntries(body.Entries, m.Instance, body.First)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(changes) == 0 {
		return nil, fmt.Errorf("%w: empty batch", ErrMalformed)
	}
	return &Batch{Instance: m.Instance, First: body.First, Changes: changes}, nil
}
