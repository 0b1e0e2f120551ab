package protocol

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"merklekv/pkg/kv"
)

// PeerHello opens a link in both directions.
type PeerHello struct {
	Version  uint64     `cbor:"1,keyasint"`
	NodeID   string     `cbor:"2,keyasint"`
	Instance uint64     `cbor:"3,keyasint"`
	Prefix   string     `cbor:"4,keyasint"` // the cluster's topic prefix
	Address  string     `cbor:"5,keyasint"` // host:port where this node can be dialled
	Nonce    []byte     `cbor:"6,keyasint"` // PeerNonceLen random bytes
	Started  int64      `cbor:"7,keyasint"` // Unix milliseconds
	Params   PeerParams `cbor:"8,keyasint"`
	Secret   bool       `cbor:"9,keyasint"` // whether this node has a cluster secret
	// Volume is the random number of the directory that keeps this node's data; 0:
	// none does.
	Volume uint64 `cbor:"10,keyasint,omitempty"`
}

// PeerNonceLen is the length of a hello's nonce, in bytes.
const PeerNonceLen = 32

// PeerParams are what replicas must have in common to be comparable.
type PeerParams struct {
	EpochMillis    uint64 `cbor:"1,keyasint"`
	HashID         string `cbor:"2,keyasint,omitempty"` // empty: no hash is computed
	TombstoneGrace uint64 `cbor:"3,keyasint"`           // seconds
}

// VectorItem says that the changes 1 to Seq of an instance were received, the
// last of which is stamped HLC.
type VectorItem struct {
	_        struct{} `cbor:",toarray"`
	Instance uint64
	Seq      uint64
	HLC      uint64
}

// VectorSpan says that the changes Low to High of an instance were received,
// with something missing below Low.
type VectorSpan struct {
	_         struct{} `cbor:",toarray"`
	Instance  uint64
	Low, High uint64
}

// PeerPull asks for every change that the vector and the spans do not hold.
type PeerPull struct {
	Vector []VectorItem `cbor:"1,keyasint"`
	Spans  []VectorSpan `cbor:"2,keyasint,omitempty"`
	// Origins limits the answer to changes of these instances; empty: all.
	Origins []uint64 `cbor:"3,keyasint,omitempty"`
	// Repair says that the asker can repair by a session, and need not be sent
	// all that there is where the log does not reach back.
	Repair bool `cbor:"4,keyasint,omitempty"`
}

// PeerDone ends the answer to a pull.
type PeerDone struct {
	// Vector is the sender's, taken before it sent the first entry.
	Vector []VectorItem `cbor:"1,keyasint"`
	// Full says that all that the sender holds was sent, without sequences.
	Full    bool   `cbor:"2,keyasint"`
	Entries uint64 `cbor:"3,keyasint"`
	// Floor says that the sender's log does not reach back to what is missing, and
	// that it has left it to a repair session.
	Floor bool `cbor:"4,keyasint,omitempty"`
}

// Codes of a PeerError.
const (
	PeerCodeVersion   = "version"
	PeerCodePrefix    = "prefix"
	PeerCodeParams    = "parameters"
	PeerCodeSecret    = "secret"
	PeerCodeBusy      = "busy"
	PeerCodeMalformed = "malformed"
	PeerCodePaused    = "paused" // replication is paused here
	PeerCodeSync      = "sync"   // no repair session is served here
)

// PeerError is a refusal, sent in an error frame.
type PeerError struct {
	Code    string `cbor:"1,keyasint"`
	Message string `cbor:"2,keyasint"` // for a person
}

func (e *PeerError) Error() string { return fmt.Sprintf("peer refused (%s): %s", e.Code, e.Message) }

// Refuse returns why a node with the hello own must not talk to one with other,
// nil if it may.
func (own *PeerHello) Refuse(other *PeerHello) *PeerError {
	switch {
	case other.Prefix != own.Prefix:
		return &PeerError{PeerCodePrefix, fmt.Sprintf("topic_prefix is %q at %s and %q at %s: another cluster", own.Prefix, own.NodeID, other.Prefix, other.NodeID)}
	case other.Params != own.Params:
		return &PeerError{PeerCodeParams, fmt.Sprintf("parameters are %v at %s and %v at %s", own.Params, own.NodeID, other.Params, other.NodeID)}
	case own.Secret && !other.Secret:
		return &PeerError{PeerCodeSecret, fmt.Sprintf("%s has a security.cluster_secret and %s has none", own.NodeID, other.NodeID)}
	case !own.Secret && other.Secret:
		return &PeerError{PeerCodeSecret, fmt.Sprintf("%s has no security.cluster_secret and %s has one", own.NodeID, other.NodeID)}
	}
	return nil
}

// String names the parameters as the configuration does.
func (p PeerParams) String() string {
	return fmt.Sprintf("epoch %d ms, hash %q, tombstone_grace %d s", p.EpochMillis, p.HashID, p.TombstoneGrace)
}

// PeerMAC is the proof that its sender knows the secret: HMAC-SHA256 over the
// role ("dialler" or "listener") and both hello payloads, which hold the nonces.
func PeerMAC(secret []byte, role string, dialler, listener []byte) []byte {
	m := hmac.New(sha256.New, secret)
	for _, part := range [][]byte{[]byte("merklekv peer"), []byte(role), dialler, listener} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		m.Write(n[:])
		m.Write(part)
	}
	return m.Sum(nil)
}

// Bounds of the arrays in messages.
const (
	// MaxVectorItems bounds the instances of a vector in a pull or its answer.
	MaxVectorItems = 1 << 16
	// MaxVectorSpans bounds the spans of a pull.
	MaxVectorSpans = 1 << 14
	// maxElements bounds every array in any other message.
	maxElements = 1 << 13
)

// The modes are immutable once made.
var (
	peerEnc   = mustEnc()
	peerDec   = mustDec(maxElements)
	vectorDec = mustDec(MaxVectorItems)
)

func mustEnc() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}

func mustDec(elements int) cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: elements,
		MaxMapPairs:      64,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}

// EncodeCBOR returns the deterministic encoding (RFC 8949, section 4.2.1) of a
// message, whose fields have integer keys.
func EncodeCBOR(message any) []byte {
	b, err := peerEnc.Marshal(message)
	if err != nil {
		panic(err) // messages are structs of this program's own
	}
	return b
}

// DecodeCBOR reads one message and nothing after it. Unknown fields are ignored;
// indefinite lengths, tags, duplicate keys, deep nesting and arrays of more than
// 8,192 elements are errors, which wrap ErrPeerMalformed. All of that is looked
// at before memory is taken.
func DecodeCBOR(b []byte, message any) error { return decodeWith(peerDec, b, message) }

func decodeWith(mode cbor.DecMode, b []byte, message any) error {
	if err := mode.Unmarshal(b, message); err != nil {
		return fmt.Errorf("%w: %w", ErrPeerMalformed, err)
	}
	return nil
}

// DecodePull reads a pull, whose vector and spans are within their bounds and
// name no sequence above kv.MaxSeq.
func DecodePull(b []byte) (*PeerPull, error) {
	p := new(PeerPull)
	if err := decodeWith(vectorDec, b, p); err != nil {
		return nil, err
	}
	if len(p.Spans) > MaxVectorSpans {
		return nil, fmt.Errorf("%w: %d spans", ErrPeerMalformed, len(p.Spans))
	}
	for _, s := range p.Spans {
		if s.High > kv.MaxSeq {
			return nil, fmt.Errorf("%w: impossible sequence %d", ErrPeerMalformed, s.High)
		}
	}
	return p, CheckVector(p.Vector)
}

// DecodeDone reads the end of an answer to a pull, whose vector is within its
// bounds and names no sequence above kv.MaxSeq.
func DecodeDone(b []byte) (*PeerDone, error) {
	d := new(PeerDone)
	if err := decodeWith(vectorDec, b, d); err != nil {
		return nil, err
	}
	return d, CheckVector(d.Vector)
}

// CheckVector returns an error, which wraps ErrPeerMalformed, if a sequence is
// above kv.MaxSeq.
func CheckVector(items []VectorItem) error {
	for _, it := range items {
		if it.Seq > kv.MaxSeq {
			return fmt.Errorf("%w: impossible sequence %d", ErrPeerMalformed, it.Seq)
		}
	}
	return nil
}

// DecodeVersion reads only the format version of a message, which is its field
// 1 in every version that there will be.
func DecodeVersion(b []byte) (uint64, error) {
	var v struct {
		Version uint64 `cbor:"1,keyasint"`
	}
	err := DecodeCBOR(b, &v)
	return v.Version, err
}

// DecodeHello reads a hello and checks its own limits. A hello of another
// version is a *PeerError.
func DecodeHello(b []byte) (*PeerHello, error) {
	version, err := DecodeVersion(b)
	if err != nil {
		return nil, err
	}
	if version != PeerVersion {
		return nil, &PeerError{PeerCodeVersion, fmt.Sprintf("peer protocol version is %d here and %d there", PeerVersion, version)}
	}
	h := new(PeerHello)
	if err := DecodeCBOR(b, h); err != nil {
		return nil, err
	}
	if len(h.Nonce) != PeerNonceLen || h.Instance == 0 || len(h.NodeID) == 0 || len(h.NodeID) > 64 {
		return nil, fmt.Errorf("%w: hello without nonce, instance or node_id", ErrPeerMalformed)
	}
	return h, nil
}

// decodePeerError returns the refusal in b, or that b is none.
func decodePeerError(b []byte) error {
	e := new(PeerError)
	if err := DecodeCBOR(b, e); err != nil {
		return err
	}
	return e
}
