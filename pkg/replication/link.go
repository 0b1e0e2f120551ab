package replication

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"merklekv/pkg/protocol"
)

// Timeouts of a peer link. Each bounds one step.
const (
	dialTimeout  = 2 * time.Second
	stepTimeout  = 3 * time.Second  // one message of the handshake or a head
	frameTimeout = 10 * time.Second // one frame of a pull
	idleTimeout  = 30 * time.Second // between two requests

	sessionTimeout = 30 * time.Second // in which nothing of a repair session moves
)

// pacedPiece is how much of a frame SendPaced sends at once, in bytes.
const pacedPiece = 16 << 10

// Link is one end of a peer link. Its frames are for one goroutine at a time;
// Close, In and Out may be called by others.
type Link struct {
	conn    net.Conn
	waiting waiting // what r reads of conn
	r       *bufio.Reader
	w       *bufio.Writer
	buf     []byte
	peer    *protocol.PeerHello
	salt    [32]byte
	in, out atomic.Int64
	release func()
}

// newLink returns an end of a link, which is closed when ctx ends. rest is what
// was read of it already.
func newLink(ctx context.Context, conn net.Conn, rest []byte) *Link {
	p := &Link{conn: conn, waiting: waiting{conn: conn}, w: bufio.NewWriterSize(conn, 32<<10), release: closeWith(ctx, conn)}
	var r io.Reader = &p.waiting
	if len(rest) > 0 {
		r = io.MultiReader(bytes.NewReader(rest), r)
	}
	p.r = bufio.NewReaderSize(r, 32<<10)
	return p
}

// waiting reads from a connection. With a silence, each read has so long; without,
// all go by the deadline that was set.
type waiting struct {
	conn    net.Conn
	silence time.Duration
}

func (w *waiting) Read(b []byte) (int, error) {
	if w.silence > 0 {
		if err := w.conn.SetReadDeadline(time.Now().Add(w.silence)); err != nil {
			return 0, err
		}
	}
	return w.conn.Read(b)
}

// Peer returns the hello of the other end. It is not to be changed.
func (p *Link) Peer() *protocol.PeerHello { return p.peer }

// Salt returns SHA-256("merklekv link" | nonce of the dialler | nonce of the
// listener): equal at both ends, and chosen by neither alone.
func (p *Link) Salt() [32]byte { return p.salt }

// In returns how many bytes of frames were received, headers included.
func (p *Link) In() int64 { return p.in.Load() }

// Out returns how many bytes of frames were sent, headers included.
func (p *Link) Out() int64 { return p.out.Load() }

// Send sends one frame, within 30 s.
func (p *Link) Send(t protocol.FrameType, payload []byte) error {
	return p.write(sessionTimeout, t, payload)
}

// SendPaced sends one frame in pieces of up to 16 KiB, before each of which wait is
// called with its length in bytes, the header's included. Each piece has to be
// taken within 30 s. An error of wait is returned as it is; the link is of no use
// after any error, since a part of the frame may have been sent.
func (p *Link) SendPaced(t protocol.FrameType, payload []byte, wait func(bytes int) error) error {
	head := protocol.AppendFrameHeader(nil, t, len(payload))
	for len(head)+len(payload) > 0 {
		n := min(len(payload), pacedPiece-len(head))
		if err := wait(len(head) + n); err != nil {
			return err
		}
		if err := p.put(sessionTimeout, head, payload[:n]); err != nil {
			return fmt.Errorf("send %v frame: %w", t, err)
		}
		head, payload = nil, payload[n:]
	}
	return nil
}

// Receive returns the next frame, which has to be of a wanted type. It may take as
// long as it likes, but something of it has to come within 30 s, again and again:
// who sends may be held to a rate, and knows how long all may take. The payload is
// valid until the next call. A refusal by the other end is a *protocol.PeerError.
func (p *Link) Receive(want ...protocol.FrameType) (protocol.FrameType, []byte, error) {
	p.waiting.silence = sessionTimeout
	defer func() { p.waiting.silence = 0 }()
	return p.readFrame(want...)
}

// Close closes the link, which ends a Send or Receive under way.
func (p *Link) Close() { p.release() }

// greeted records who is at the other end, and both nonces.
func (p *Link) greeted(other *protocol.PeerHello, dialler, listener []byte) {
	p.peer = other
	p.salt = sha256.Sum256(slices.Concat([]byte("merklekv link"), dialler, listener))
}

// read returns the next frame, which must be of a wanted type and be here in time.
// Its payload is valid until the next call.
func (p *Link) read(timeout time.Duration, want ...protocol.FrameType) (protocol.FrameType, []byte, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, err
	}
	return p.readFrame(want...)
}

func (p *Link) readFrame(want ...protocol.FrameType) (protocol.FrameType, []byte, error) {
	t, b, err := protocol.ReadFrame(p.r, p.buf, want...)
	if err == nil {
		p.in.Add(int64(protocol.FrameHeaderLen + len(b)))
	}
	if cap(b) > cap(p.buf) && cap(b) <= protocol.EntriesFrameSize {
		p.buf = b[:0]
	}
	return t, b, err
}

// write sends a frame whose payload is in pieces.
func (p *Link) write(timeout time.Duration, t protocol.FrameType, payload ...[]byte) error {
	n := 0
	for _, b := range payload {
		n += len(b)
	}
	if err := p.put(timeout, protocol.AppendFrameHeader(nil, t, n), payload...); err != nil {
		return fmt.Errorf("send %v frame: %w", t, err)
	}
	return nil
}

// put sends bytes that stand in pieces.
func (p *Link) put(timeout time.Duration, head []byte, more ...[]byte) error {
	if err := p.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	p.w.Write(head) // Flush returns the first error
	n := len(head)
	for _, b := range more {
		p.w.Write(b)
		n += len(b)
	}
	if err := p.w.Flush(); err != nil {
		return err
	}
	p.out.Add(int64(n))
	return nil
}

// writePaced sends a frame of a pull, if the other end takes those fast enough.
func (p *Link) writePaced(pace *pullPace, t protocol.FrameType, payload ...[]byte) error {
	n := 0
	for _, b := range payload {
		n += len(b)
	}
	start := time.Now()
	err := p.write(pace.timeout(n), t, payload...)
	pace.note(n, time.Since(start))
	return err
}

// refuse tells the other end why it is refused, as far as it listens, and
// returns that as the error.
func (p *Link) refuse(err error) error {
	var refusal *protocol.PeerError
	if errors.Is(err, os.ErrDeadlineExceeded) {
		refusal = &protocol.PeerError{Code: protocol.PeerCodeMalformed, Message: "the handshake took too long"}
	} else if !errors.As(err, &refusal) {
		refusal = &protocol.PeerError{Code: protocol.PeerCodeMalformed, Message: "not what the peer protocol allows here"}
	}
	p.write(stepTimeout, protocol.FrameError, protocol.EncodeCBOR(refusal))
	return err
}

// errSecret is the refusal of a peer that does not know the secret.
func errSecret() error {
	return &protocol.PeerError{Code: protocol.PeerCodeSecret, Message: "security.cluster_secret differs"}
}

// dialHandshake turns a fresh client connection into a peer link and returns who
// is at the other end, which has shown that it knows the secret if there is one.
func (p *Link) dialHandshake(own *protocol.PeerHello, secret []byte) (*protocol.PeerHello, error) {
	if err := p.upgrade(); err != nil {
		return nil, err
	}
	mine := protocol.EncodeCBOR(own)
	if err := p.write(stepTimeout, protocol.FrameHello, mine); err != nil {
		return nil, err
	}
	_, payload, err := p.read(stepTimeout, protocol.FrameHello)
	if err != nil {
		return nil, err
	}
	theirs := bytes.Clone(payload)
	other, err := protocol.DecodeHello(theirs)
	if err != nil {
		return nil, p.refuse(err)
	}
	if refusal := own.Refuse(other); refusal != nil {
		return nil, p.refuse(refusal)
	}
	p.greeted(other, own.Nonce, other.Nonce)
	if len(secret) == 0 {
		return other, nil
	}
	if err := p.write(stepTimeout, protocol.FrameAuth, protocol.PeerMAC(secret, "dialler", mine, theirs)); err != nil {
		return nil, err
	}
	_, proof, err := p.read(stepTimeout, protocol.FrameAuth)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(proof, protocol.PeerMAC(secret, "listener", mine, theirs)) {
		return nil, p.refuse(errSecret())
	}
	return other, nil
}

// upgrade asks a client port for the peer protocol.
func (p *Link) upgrade() error {
	deadline := time.Now().Add(stepTimeout)
	if err := p.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(p.conn, "PEER\r\n"); err != nil {
		return fmt.Errorf("send PEER: %w", err)
	}
	var line []byte
	for len(line) < 256 {
		b, err := p.r.ReadByte()
		if err != nil {
			return fmt.Errorf("read answer to PEER: %w", err)
		}
		if b != '\n' {
			line = append(line, b)
			continue
		}
		if s := strings.TrimSuffix(string(line), "\r"); s != "OK" {
			return fmt.Errorf("the answer to PEER is %.80q and not OK", s)
		}
		return nil
	}
	return errors.New("the answer to PEER is no line")
}

// acceptHandshake is the other end of dialHandshake, after the upgrade.
func (p *Link) acceptHandshake(own *protocol.PeerHello, secret []byte) (*protocol.PeerHello, error) {
	_, payload, err := p.read(stepTimeout, protocol.FrameHello)
	if err != nil {
		return nil, p.refuse(err)
	}
	theirs := bytes.Clone(payload)
	other, err := protocol.DecodeHello(theirs)
	if err != nil {
		return nil, p.refuse(err)
	}
	if refusal := own.Refuse(other); refusal != nil {
		return nil, p.refuse(refusal)
	}
	mine := protocol.EncodeCBOR(own)
	if err := p.write(stepTimeout, protocol.FrameHello, mine); err != nil {
		return nil, err
	}
	p.greeted(other, other.Nonce, own.Nonce)
	if len(secret) == 0 {
		return other, nil
	}
	_, proof, err := p.read(stepTimeout, protocol.FrameAuth)
	if err != nil {
		return nil, p.refuse(err)
	}
	if !hmac.Equal(proof, protocol.PeerMAC(secret, "dialler", theirs, mine)) {
		return nil, p.refuse(errSecret())
	}
	return other, p.write(stepTimeout, protocol.FrameAuth, protocol.PeerMAC(secret, "listener", theirs, mine))
}

// closeWith closes a connection when ctx ends, so that nobody stays blocked in
// it; the returned function closes it at once.
func closeWith(ctx context.Context, conn net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return func() {
		stop()
		conn.Close()
	}
}

// ignoreEOF returns nil for the end of a link between two requests, which is how
// a link ends.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
