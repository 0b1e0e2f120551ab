package server

import (
	"errors"

	"merklekv/pkg/journal"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
)

// handler executes one command. The arguments fit the command's row of the
// table. What the reply points to is valid until the session's next request.
type handler func(s *session, args [][]byte) protocol.Reply

var handlers = [protocol.NumCommands]handler{
	protocol.CmdSet:       (*session).set,
	protocol.CmdGet:       (*session).get,
	protocol.CmdDel:       (*session).del,
	protocol.CmdExists:    (*session).exists,
	protocol.CmdMGet:      (*session).mGet,
	protocol.CmdMSet:      (*session).mSet,
	protocol.CmdAppend:    (*session).append,
	protocol.CmdPrepend:   (*session).prepend,
	protocol.CmdScan:      (*session).scan,
	protocol.CmdDBSize:    (*session).dbSize,
	protocol.CmdMemory:    (*session).memory,
	protocol.CmdPing:      (*session).ping,
	protocol.CmdEcho:      (*session).echo,
	protocol.CmdVersion:   (*session).version,
	protocol.CmdInfo:      (*session).info,
	protocol.CmdStats:     (*session).stats,
	protocol.CmdHash:      (*session).hash,
	protocol.CmdConverged: (*session).converged,
	protocol.CmdSync:      (*session).sync,
	protocol.CmdDiff:      (*session).diff,
	protocol.CmdSyncs:     (*session).syncs,
	protocol.CmdPeers:     (*session).peers,
	protocol.CmdReplicate: (*session).replicate,
	protocol.CmdForget:    (*session).forget,
	protocol.CmdTruncate:  (*session).truncate,
	protocol.CmdDebug:     (*session).debug,
	protocol.CmdClient:    (*session).client,
	protocol.CmdPeer:      (*session).peer,
	protocol.CmdQuit:      (*session).quit,
	protocol.CmdShutdown:  (*session).shutdown,
}

func (s *session) get(args [][]byte) protocol.Reply {
	value, ok := s.env.store.Get(s.scratch[:0], args[0])
	s.scratch = value
	if !ok {
		return protocol.NullReply()
	}
	if len(value) > keptValue && !s.afford(int64(len(value))) {
		return protocol.Reply{}
	}
	return protocol.BulkReply(value)
}

// affordChanged is afford for the value that an APPEND or PREPEND will make; it
// is asked before, for a write cannot be done again.
func (s *session) affordChanged(key, added []byte) bool {
	before, _ := s.env.store.MemoryOf(key)
	return s.afford(before + int64(len(added)))
}

func (s *session) set(args [][]byte) protocol.Reply {
	t, err := s.env.store.Set(args[0], args[1])
	return s.done(t, err)
}

func (s *session) mSet(args [][]byte) protocol.Reply {
	t, err := s.env.store.MSet(args)
	return s.done(t, err)
}

func (s *session) del(args [][]byte) protocol.Reply {
	n := int64(0)
	for _, key := range args {
		existed, t, err := s.env.store.Delete(key)
		if err != nil {
			return s.fail(err)
		}
		s.wrote(t)
		if existed {
			n++
		}
	}
	return protocol.Reply{Kind: protocol.Integer, Int: n, Single: len(args) == 1}
}

func (s *session) exists(args [][]byte) protocol.Reply {
	n := int64(0)
	for _, key := range args {
		if s.env.store.Exists(key) {
			n++
		}
	}
	return protocol.Reply{Kind: protocol.Integer, Int: n, Single: len(args) == 1}
}

func (s *session) append(args [][]byte) protocol.Reply {
	if !s.affordChanged(args[0], args[1]) {
		return protocol.Reply{}
	}
	value, t, err := s.env.store.Append(s.scratch[:0], args[0], args[1])
	return s.changed(value, t, err)
}

func (s *session) prepend(args [][]byte) protocol.Reply {
	if !s.affordChanged(args[0], args[1]) {
		return protocol.Reply{}
	}
	value, t, err := s.env.store.Prepend(s.scratch[:0], args[0], args[1])
	return s.changed(value, t, err)
}

func (s *session) mGet(args [][]byte) protocol.Reply {
	s.mget = keyValues{session: s, keys: args}
	return protocol.Reply{Kind: protocol.List, Int: int64(len(args)), Elements: &s.mget}
}

// keyValues yields the values of keys, read one by one.
type keyValues struct {
	session *session
	keys    [][]byte
}

func (k *keyValues) Next(r *protocol.Reply) bool {
	if len(k.keys) == 0 {
		return false
	}
	*r = k.session.get(k.keys[:1])
	if k.session.held == needInput {
		k.keys = k.keys[1:]
	}
	return true
}

func (s *session) dbSize([][]byte) protocol.Reply {
	return protocol.IntegerReply(int64(s.env.store.Len()))
}

func (s *session) memory(args [][]byte) protocol.Reply {
	if len(args) == 0 {
		return protocol.IntegerReply(s.env.store.MemoryUsed())
	}
	n, ok := s.env.store.MemoryOf(args[0])
	if !ok {
		return protocol.NullReply()
	}
	return protocol.IntegerReply(n)
}

func (s *session) ping(args [][]byte) protocol.Reply {
	r := protocol.StatusReply("PONG")
	if len(args) > 0 {
		r.Bulk = args[0]
	}
	return r
}

func (s *session) echo(args [][]byte) protocol.Reply { return protocol.BulkReply(args[0]) }

func (s *session) version([][]byte) protocol.Reply { return protocol.StatusReply(s.env.version) }

func (s *session) truncate([][]byte) protocol.Reply {
	t, err := s.env.store.Truncate()
	return s.done(t, err)
}

func (s *session) client(args [][]byte) protocol.Reply {
	if !protocol.IsWord(args[0], "LIST") {
		return protocol.ErrorReply(protocol.ErrInvalidArgument)
	}
	s.last.Store(uint32(protocol.CmdClient)) // it is under way, and lists itself
	return protocol.Reply{Kind: protocol.Lines, Elements: s.env.clients()}
}

func (s *session) peer([][]byte) protocol.Reply {
	if !s.env.peers {
		return protocol.ErrorReply(protocol.ErrNotAuthorized)
	}
	s.end = upgrade
	return protocol.OK()
}

func (s *session) quit([][]byte) protocol.Reply {
	s.end, s.lingers = closeConn, true
	return protocol.OK()
}

func (s *session) shutdown([][]byte) protocol.Reply {
	if !s.env.shutdown {
		return protocol.ErrorReply(protocol.ErrNotAuthorized)
	}
	s.end, s.lingers, s.stops = closeConn, true, true
	return protocol.OK()
}

// done answers a write that returns nothing.
func (s *session) done(t journal.Ticket, err error) protocol.Reply {
	if err != nil {
		return s.fail(err)
	}
	s.wrote(t)
	return protocol.OK()
}

// changed answers a write that returns the new value.
func (s *session) changed(value []byte, t journal.Ticket, err error) protocol.Reply {
	if err != nil {
		return s.fail(err)
	}
	s.wrote(t)
	s.scratch = value
	return protocol.BulkReply(value)
}

// fail answers the store's error with the protocol's message.
func (s *session) fail(err error) protocol.Reply {
	var readOnly *kv.ReadOnlyError
	switch {
	case errors.Is(err, kv.ErrInvalidKey):
		return protocol.ErrorReply(protocol.ErrInvalidKey)
	case errors.Is(err, kv.ErrKeyTooLong):
		return protocol.ErrorReply(protocol.ErrKeyTooLong)
	case errors.Is(err, kv.ErrValueTooLong):
		return protocol.ErrorReply(protocol.ErrValueTooLong)
	case errors.Is(err, kv.ErrStorageFull):
		return protocol.ErrorReply(protocol.ErrStorageFull)
	case errors.As(err, &readOnly):
		return protocol.ErrorReply(protocol.ReadOnly(readOnly.Why))
	}
	return s.env.refuse(s.command, err)
}
