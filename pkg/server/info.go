package server

import (
	"slices"
	"strconv"
	"time"

	"merklekv/pkg/protocol"
)

func (s *session) info(args [][]byte) protocol.Reply {
	sections := s.env.info()
	if len(args) > 0 {
		sections = slices.DeleteFunc(sections, func(section Section) bool {
			return !protocol.IsWord(args[0], upper(section.Name))
		})
		if len(sections) == 0 {
			return protocol.ErrorReply(protocol.ErrInvalidArgument)
		}
	}
	return protocol.Reply{Kind: protocol.Lines, Elements: &sectionLines{sections: sections}}
}

func (s *session) stats([][]byte) protocol.Reply {
	return protocol.Reply{Kind: protocol.Lines, Elements: &fieldLines{fields: s.env.stats()}}
}

func upper(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// sectionLines yields sections: a line with the name, then the fields.
type sectionLines struct {
	sections []Section
	fields   fieldLines
}

func (l *sectionLines) Next(r *protocol.Reply) bool {
	if l.fields.Next(r) {
		return true
	}
	if len(l.sections) == 0 {
		return false
	}
	*r = protocol.Reply{Kind: protocol.Line, Bulk: []byte("# " + l.sections[0].Name)}
	l.fields.fields = l.sections[0].Fields
	l.sections = l.sections[1:]
	return true
}

// fieldLines yields fields as name:value.
type fieldLines struct {
	fields []Field
	buf    []byte
}

func (f *fieldLines) Next(r *protocol.Reply) bool {
	if len(f.fields) == 0 {
		return false
	}
	field := f.fields[0]
	f.fields = f.fields[1:]
	f.buf = append(append(f.buf[:0], field.Name...), ':')
	if value := []byte(field.Value); protocol.IsText(value) {
		f.buf = append(f.buf, value...)
	} else {
		f.buf = protocol.AppendEscaped(f.buf, value)
	}
	*r = protocol.Reply{Kind: protocol.Line, Bulk: f.buf}
	return true
}

// clientLines yields a line for each connection.
type clientLines struct {
	conns []*conn
	now   time.Duration
	buf   []byte
}

func (l *clientLines) Next(r *protocol.Reply) bool {
	if len(l.conns) == 0 {
		return false
	}
	l.buf = l.conns[0].appendLine(l.buf[:0], l.now)
	l.conns = l.conns[1:]
	*r = protocol.Reply{Kind: protocol.Line, Bulk: l.buf}
	return true
}

func (s *Server) clientList() protocol.Elements {
	return &clientLines{conns: s.snapshot(), now: s.now()}
}

// infoSections returns what INFO shows: the server's sections, then the node's.
func (s *Server) infoSections() []Section {
	clients, peers := s.counts()
	st := s.Stats()
	own := []Section{
		{"server", []Field{
			{"version", s.opts.Version},
			{"address", s.Addr().String()},
			number("uptime_seconds", int64(s.now()/time.Second)),
		}},
		{"clients", []Field{
			number("connected_clients", int64(clients)),
			number("connected_peers", int64(peers)),
			number("max_connections", int64(s.limits.Load().MaxConnections)),
			number("refused_connections", int64(st.Refused)),
		}},
		{"keyspace", []Field{
			number("keys", int64(s.opts.Store.Len())),
			number("used_memory_bytes", s.opts.Store.MemoryUsed()),
		}},
	}
	return append(own, s.opts.Info()...)
}

// statFields returns what STATS shows.
func (s *Server) statFields() []Field {
	st := s.Stats()
	fields := []Field{
		number("uptime_seconds", int64(s.now()/time.Second)),
		number("commands_total", int64(st.Commands)),
		number("command_errors_total", int64(st.Errors)),
		number("connections_total", int64(st.Accepted)),
		number("connections_refused_total", int64(st.Refused)),
		number("connections_timed_out_total", int64(st.TimedOut)),
		number("bytes_received_total", int64(st.BytesIn)),
		number("bytes_sent_total", int64(st.BytesOut)),
	}
	for id := range protocol.NumCommands {
		fields = append(fields, number("commands_"+id.String(), int64(s.metrics.requests[id].Load())))
	}
	return fields
}

func number(name string, n int64) Field { return Field{name, strconv.FormatInt(n, 10)} }

func appendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, int64(d/time.Second), 10)
}
