package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"strconv"
	"time"

	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

const (
	// maxDiff is the greatest limit of DIFF, and defaultDiff what it is where the
	// request does not say.
	maxDiff     = 10_000
	defaultDiff = 1_000
	// diffCost is what a line of DIFF takes while it waits to be written, at most
	// and in bytes.
	diffCost = kv.MaxKeyLen + kv.MaxFacetLen + 128
	// maxSyncs is how many sessions SYNCS lists at most.
	maxSyncs = 100
)

func (s *session) notAuthorized() protocol.Reply {
	return protocol.ErrorReply(protocol.ErrNotAuthorized)
}

func (s *session) invalidArgument() protocol.Reply {
	return protocol.ErrorReply(protocol.ErrInvalidArgument)
}

func (s *session) hash(args [][]byte) protocol.Reply {
	repair := s.env.repair
	if repair == nil {
		return s.notAuthorized()
	}
	var prefix []byte
	if len(args) > 0 {
		prefix = bytes.Clone(args[0])
	}
	return s.later(func(ctx context.Context) (protocol.Reply, error) {
		h, err := repair.Hash(ctx, prefix)
		return protocol.BulkReply(hex.AppendEncode(nil, h[:])), err
	})
}

func (s *session) converged(args [][]byte) protocol.Reply {
	repair := s.env.repair
	if repair == nil {
		return s.notAuthorized()
	}
	var version kv.Version
	if len(args) > 0 {
		var err error
		if version, err = kv.ParseVersion(string(args[0])); err != nil {
			return s.invalidArgument()
		}
	}
	return s.later(func(ctx context.Context) (protocol.Reply, error) {
		v, err := repair.Converged(ctx, version)
		r := protocol.StatusReply(v.Equality.String())
		r.Bulk = v.AppendDetails(nil)
		return r, err
	})
}

func (s *session) sync(args [][]byte) protocol.Reply {
	repair := s.env.repair
	if repair == nil {
		return s.notAuthorized()
	}
	r, ok := parseSync(args)
	if !ok {
		return s.invalidArgument()
	}
	return s.later(func(ctx context.Context) (protocol.Reply, error) {
		report, err := repair.Sync(ctx, r)
		return report.reply(r.Verify), err
	})
}

// parseSync reads SYNC's arguments: each option once at most, in any order.
func parseSync(args [][]byte) (r SyncRequest, ok bool) {
	r.Host, r.Port = string(args[0]), string(args[1])
	for _, option := range args[2:] {
		switch {
		case protocol.IsWord(option, "--FULL") && !r.Full:
			r.Full = true
		case protocol.IsWord(option, "--VERIFY") && !r.Verify:
			r.Verify = true
		default:
			return r, false
		}
	}
	return r, isPort(r.Port)
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// reply returns the report as SYNC answers it, and SYNC --verify.
func (r *SyncReport) reply(verify bool) protocol.Reply {
	switch {
	case !verify:
		ok := protocol.OK()
		ok.Bulk = appendRecord(nil, Record{
			number("repaired", r.Repaired), number("compared", r.Compared), number("bytes", r.Bytes),
			number("rounds", r.Rounds), number("ms", r.Elapsed.Milliseconds()),
		})
		return ok
	case r.Different == 0:
		return protocol.StatusReply(protocol.Equal.String())
	}
	different := protocol.StatusReply(protocol.Different.String())
	different.Bulk = strconv.AppendInt(nil, r.Different, 10)
	return different
}

func (s *session) diff(args [][]byte) protocol.Reply {
	repair := s.env.repair
	if repair == nil {
		return s.notAuthorized()
	}
	host, port, limit := string(args[0]), string(args[1]), defaultDiff
	ok := isPort(port)
	if len(args) > 2 && ok {
		limit, ok = parseNumber(args[2], maxDiff)
	}
	if !ok {
		return s.invalidArgument()
	}
	if !s.afford(int64(limit) * diffCost) {
		return protocol.Reply{}
	}
	return s.later(func(ctx context.Context) (protocol.Reply, error) {
		d, err := repair.Diff(ctx, host, port, limit)
		d.Listed = d.Listed[:min(len(d.Listed), limit)]
		head := "DIFF " + strconv.FormatInt(d.Total, 10)
		return protocol.Reply{Kind: protocol.Lines, Text: head, Elements: &diffLines{listed: d.Listed}}, err
	})
}

// parseNumber reads a number from 1 to most.
func parseNumber(text []byte, most int) (n int, ok bool) {
	n, err := strconv.Atoi(string(text))
	return n, err == nil && n >= 1 && n <= most
}

func (s *session) syncs(args [][]byte) protocol.Reply {
	if s.env.repair == nil {
		return s.notAuthorized()
	}
	n := maxSyncs
	if len(args) > 0 {
		var ok bool
		if n, ok = parseNumber(args[0], maxSyncs); !ok {
			return s.invalidArgument()
		}
	}
	return recordsReply("", s.env.repair.Sessions(n))
}

func (s *session) peers([][]byte) protocol.Reply {
	if s.env.cluster == nil {
		return s.notAuthorized()
	}
	return recordsReply("", s.env.cluster.Peers())
}

func (s *session) replicate(args [][]byte) protocol.Reply {
	cluster := s.env.cluster
	switch {
	case cluster == nil:
		return s.notAuthorized()
	case protocol.IsWord(args[0], "ENABLE"):
		cluster.SetReplicating(true)
	case protocol.IsWord(args[0], "DISABLE"):
		cluster.SetReplicating(false)
	case protocol.IsWord(args[0], "STATUS"):
		return replicationReply(cluster)
	default:
		return s.invalidArgument()
	}
	return protocol.OK()
}

func replicationReply(cluster Cluster) protocol.Reply {
	enabled, nodes := cluster.Replicating()
	state := "disabled"
	if enabled {
		state = "enabled"
	}
	return recordsReply("REPLICATION "+state+" "+strconv.Itoa(nodes)+" nodes", cluster.Peers())
}

func (s *session) forget(args [][]byte) protocol.Reply {
	if s.env.cluster == nil {
		return s.notAuthorized()
	}
	known, t, err := s.env.cluster.Forget(string(args[0]))
	if err == nil && !known {
		return protocol.StatusReply("NOT_FOUND")
	}
	return s.done(t, err)
}

func recordsReply(head string, records []Record) protocol.Reply {
	return protocol.Reply{Kind: protocol.Lines, Text: head, Elements: &recordLines{records: records}}
}

// recordLines yields a line for each record.
type recordLines struct {
	records []Record
	buf     []byte
}

func (l *recordLines) Next(r *protocol.Reply) bool {
	if len(l.records) == 0 {
		return false
	}
	l.buf = appendRecord(l.buf[:0], l.records[0])
	l.records = l.records[1:]
	*r = protocol.Reply{Kind: protocol.Line, Bulk: l.buf}
	return true
}

// appendRecord appends name=value words; values are percent-escaped, so that the
// words can be told apart.
func appendRecord(dst []byte, record Record) []byte {
	for i, f := range record {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(append(dst, f.Name...), '=')
		dst = protocol.AppendEscaped(dst, []byte(f.Value))
	}
	return dst
}

// diffLines yields a line for each difference and lets go of it.
type diffLines struct {
	listed []Difference
	buf    []byte
}

func (l *diffLines) Next(r *protocol.Reply) bool {
	if len(l.listed) == 0 {
		return false
	}
	d := &l.listed[0]
	l.buf = protocol.AppendEscaped(append(l.buf[:0], "key="...), d.Key)
	l.buf = protocol.AppendEscaped(append(l.buf, " facet="...), d.Facet)
	l.buf = appendHeldVersion(append(l.buf, " here="...), d.Here)
	l.buf = appendHeldVersion(append(l.buf, " there="...), d.There)
	*d = Difference{}
	l.listed = l.listed[1:]
	*r = protocol.Reply{Kind: protocol.Line, Bulk: l.buf}
	return true
}

// appendHeldVersion appends the version that a node holds, nothing if it holds
// none.
func appendHeldVersion(dst []byte, v kv.Version) []byte {
	if v.IsZero() {
		return dst
	}
	return append(dst, v.String()...)
}

// wallTime formats milliseconds since 1970 as RFC 3339 has them, in UTC.
func wallTime(millis int64) string {
	return time.UnixMilli(millis).UTC().Format("2006-01-02T15:04:05.000Z")
}
