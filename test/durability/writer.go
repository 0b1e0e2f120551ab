package durability

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// converse writes over one connection until the node ends it, pipeline requests at a
// time, and keeps the ledger. It counts every acknowledgement in acked. An error is a
// reply that must not come; the end of the connection is none.
func (l *ledger) converse(address string, r *rand.Rand, pipeline, longest int, acked *atomic.Int64) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil // it was killed before
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		var lines strings.Builder
		requests := make([]request, 1+r.IntN(pipeline))
		for i := range requests {
			requests[i] = l.draw(r, longest)
			lines.WriteString(requests[i].line + "\r\n")
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(conn, lines.String())
			sent <- err
		}()
		err := l.replies(in, requests, acked)
		conn.SetWriteDeadline(time.Now()) // all replies came, or none will
		if failed := <-sent; err == nil && failed != nil {
			return nil
		}
		if err != nil {
			return ended(err)
		}
		conn.SetWriteDeadline(time.Time{})
	}
}

// wrongReply is a reply that must not come.
type wrongReply struct{ asked, got, want string }

func (e *wrongReply) Error() string {
	return fmt.Sprintf("%.80q was answered %.80q, want %.80q", e.asked, e.got, e.want)
}

// ended keeps what is wrong and drops what a killed node looks like.
func ended(err error) error {
	if wrong, ok := err.(*wrongReply); ok {
		return wrong
	}
	return nil
}

// replies reads a reply for each request, also those that came before the node died.
func (l *ledger) replies(in *bufio.Reader, requests []request, acked *atomic.Int64) error {
	for _, q := range requests {
		reply, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if reply = strings.TrimSuffix(reply, "\r\n"); reply != q.reply {
			return &wrongReply{q.line, reply, q.reply}
		}
		l.acked += len(q.steps)
		acked.Add(1)
	}
	return nil
}
