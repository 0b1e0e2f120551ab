package protocol

// ID names a command in code. IDs are dense, so that arrays are indexed by them;
// they never leave the process.
type ID uint8

// The commands. CmdNone stands for a request whose command is not known.
const (
	CmdNone ID = iota
	CmdSet
	CmdGet
	CmdDel
	CmdExists
	CmdMGet
	CmdMSet
	CmdAppend
	CmdPrepend
	CmdScan
	CmdDBSize
	CmdMemory
	CmdPing
	CmdEcho
	CmdVersion
	CmdInfo
	CmdStats
	CmdHash
	CmdConverged
	CmdSync
	CmdDiff
	CmdSyncs
	CmdPeers
	CmdReplicate
	CmdForget
	CmdTruncate
	CmdDebug
	CmdClient
	CmdPeer
	CmdQuit
	CmdShutdown

	// NumCommands is one more than the greatest ID.
	NumCommands
)

// Keys says which of a command's arguments are keys.
type Keys uint8

const (
	// NoKeys: none.
	NoKeys Keys = iota
	// FirstKey: the first one.
	FirstKey
	// SecondKey: the second one.
	SecondKey
	// AllKeys: all of them.
	AllKeys
	// KeyValuePairs: the first, third, fifth and so on; each is followed by
	// its value.
	KeyValuePairs
)

// Flags are what a command does.
type Flags uint8

const (
	// Read says that the command looks at keys.
	Read Flags = 1 << iota
	// Write says that the command changes keys.
	Write
	// Admin says that the command is for operators or for other nodes.
	Admin
)

// Unlimited as MaxArgs means as many as the request holds, MaxWords at most.
const Unlimited = -1

// MaxWords is the greatest number of arguments of any request. It bounds what
// the parser keeps beside the request itself.
const MaxWords = 1 << 16

// Command is one row of the command table.
type Command struct {
	ID      ID
	Name    string   // upper case
	Aliases []string // upper case
	MinArgs int
	MaxArgs int // or Unlimited
	// Rest says that argument MaxArgs is the rest of the line, verbatim: all
	// that follows the one blank behind the argument before it.
	Rest  bool
	Keys  Keys
	Flags Flags

	Usage string // arguments, as "key value"
	Reply string // what plain style answers, for the documentation
	Help  string // one sentence
}

// IsKey reports whether argument i (from 0) is a key.
func (c *Command) IsKey(i int) bool {
	switch c.Keys {
	case FirstKey:
		return i == 0
	case SecondKey:
		return i == 1
	case AllKeys:
		return true
	case KeyValuePairs:
		return i%2 == 0
	}
	return false
}

// CheckArity returns ErrMissingArguments or ErrTooManyArguments if the command
// does not take n arguments.
func (c *Command) CheckArity(n int) error {
	switch {
	case n < c.MinArgs, c.Keys == KeyValuePairs && n%2 != 0:
		return ErrMissingArguments
	case c.MaxArgs != Unlimited && n > c.MaxArgs, n > MaxWords:
		return ErrTooManyArguments
	}
	return nil
}

// Commands returns the command table in the order of the documentation. The
// caller must not change it.
func Commands() []Command { return table }

var table = []Command{
	{ID: CmdSet, Name: "SET", MinArgs: 2, MaxArgs: 2, Rest: true, Keys: FirstKey, Flags: Write,
		Usage: "key value", Reply: "`OK`",
		Help: "Stores the value under the key."},
	{ID: CmdGet, Name: "GET", MinArgs: 1, MaxArgs: 1, Keys: FirstKey, Flags: Read,
		Usage: "key", Reply: "the value, or `(null)`",
		Help: "Reads a key."},
	{ID: CmdDel, Name: "DEL", Aliases: []string{"DELETE"}, MinArgs: 1, MaxArgs: Unlimited, Keys: AllKeys, Flags: Write,
		Usage: "key [key ...]", Reply: "one key: `DELETED` or `NOT_FOUND`; several: `DELETED n`",
		Help: "Removes keys; n counts those that existed."},
	{ID: CmdExists, Name: "EXISTS", MinArgs: 1, MaxArgs: Unlimited, Keys: AllKeys, Flags: Read,
		Usage: "key [key ...]", Reply: "a number",
		Help: "Counts the keys that exist; a key named twice counts twice."},
	{ID: CmdMGet, Name: "MGET", MinArgs: 1, MaxArgs: Unlimited, Keys: AllKeys, Flags: Read,
		Usage: "key [key ...]", Reply: "one line a key, in order: the value or `(null)`",
		Help: "Reads several keys, one after the other."},
	{ID: CmdMSet, Name: "MSET", MinArgs: 2, MaxArgs: Unlimited, Keys: KeyValuePairs, Flags: Write,
		Usage: "key value [key value ...]", Reply: "`OK`",
		Help: "Stores several values, all or none on this node (peers may see some earlier than others); the values have no blanks."},
	{ID: CmdAppend, Name: "APPEND", MinArgs: 2, MaxArgs: 2, Rest: true, Keys: FirstKey, Flags: Write,
		Usage: "key value", Reply: "the whole new value",
		Help: "Adds to the end of a value; a key that does not exist counts as empty."},
	{ID: CmdPrepend, Name: "PREPEND", MinArgs: 2, MaxArgs: 2, Rest: true, Keys: FirstKey, Flags: Write,
		Usage: "key value", Reply: "the whole new value",
		Help: "Adds to the front of a value; a key that does not exist counts as empty."},
	{ID: CmdScan, Name: "SCAN", MinArgs: 0, MaxArgs: 5, Flags: Read,
		Usage: "[prefix] [CURSOR c] [COUNT n]", Reply: "`KEYS n`, then n lines; with an option `KEYS n next`, then n lines",
		Help: "Lists the keys that begin with the prefix, sorted bytewise, all at once or page by page (see below)."},
	{ID: CmdDBSize, Name: "DBSIZE", Flags: Read,
		Reply: "a number",
		Help:  "Counts the keys."},
	{ID: CmdMemory, Name: "MEMORY", MinArgs: 0, MaxArgs: 1, Keys: FirstKey, Flags: Read,
		Usage: "[key]", Reply: "a number, or `(null)`",
		Help: "Bytes of memory that all keys use, or that one does."},
	{ID: CmdPing, Name: "PING", MinArgs: 0, MaxArgs: 1, Rest: true,
		Usage: "[message]", Reply: "`PONG`, or `PONG message`",
		Help: "Shows that the node answers."},
	{ID: CmdEcho, Name: "ECHO", MinArgs: 1, MaxArgs: 1, Rest: true,
		Usage: "message", Reply: "the message",
		Help: "Sends the message back."},
	{ID: CmdVersion, Name: "VERSION",
		Reply: "`merklekv <version>`",
		Help:  "Names the program and its version."},
	{ID: CmdInfo, Name: "INFO", MinArgs: 0, MaxArgs: 1,
		Usage: "[section]", Reply: "for each section a line `# section` and `name:value` lines, then `END`",
		Help: "Describes the node, or one section of its description."},
	{ID: CmdStats, Name: "STATS",
		Reply: "`name:value` lines, then `END`",
		Help:  "Shows the counters of the node since its start."},
	{ID: CmdHash, Name: "HASH", MinArgs: 0, MaxArgs: 1, Flags: Admin,
		Usage: "[prefix]", Reply: "64 hex digits",
		Help: "The Merkle root of all that this node holds at this moment, or the hash of the keys that begin with the prefix. Nodes with equal data answer the same."},
	{ID: CmdConverged, Name: "CONVERGED", MinArgs: 0, MaxArgs: 1, Flags: Admin,
		Usage: "[version]", Reply: "`EQUAL <epoch> <root>`, `DIFFERENT <peer> ...` or `UNKNOWN <reason> <peer> ...`",
		Help: "Tells whether all nodes hold the same, with all writes that this node knows of, or with those up to a version (see below)."},
	{ID: CmdSync, Name: "SYNC", MinArgs: 2, MaxArgs: 4, Flags: Admin,
		Usage: "host port [--full] [--verify]", Reply: "`OK repaired=n compared=n bytes=n rounds=n ms=n`; with `--verify` `EQUAL` or `DIFFERENT n`",
		Help: "Makes this node and the one at host and port equal, now; `--full` exchanges every key, whatever the hashes say, and `--verify` changes nothing."},
	{ID: CmdDiff, Name: "DIFF", MinArgs: 2, MaxArgs: 3, Flags: Admin,
		Usage: "host port [limit]", Reply: "`DIFF n`, then up to limit lines, then `END`",
		Help: "Lists what differs between this node and the one at host and port; changes nothing (see below)."},
	{ID: CmdSyncs, Name: "SYNCS", MinArgs: 0, MaxArgs: 1, Flags: Admin,
		Usage: "[n]", Reply: "one line a session, then `END`",
		Help: "Lists the last repair sessions, or the last n, newest first, each with its price."},
	{ID: CmdPeers, Name: "PEERS", Flags: Admin,
		Reply: "one line a node, then `END`",
		Help:  "Lists the other nodes as this one sees them."},
	{ID: CmdReplicate, Name: "REPLICATE", MinArgs: 1, MaxArgs: 1, Flags: Admin,
		Usage: "enable|disable|status", Reply: "`OK`; status: `REPLICATION enabled <n> nodes` or `REPLICATION disabled <n> nodes`, then the lines of `PEERS`, then `END`",
		Help: "Switches the exchange of changes on or off on this node until it stops, or tells whether it is on and how many nodes take part, this one included."},
	{ID: CmdForget, Name: "FORGET", MinArgs: 1, MaxArgs: 1, Flags: Write | Admin,
		Usage: "node_id", Reply: "`OK` or `NOT_FOUND`",
		Help: "Takes a node that is gone for good off the members, on all nodes."},
	{ID: CmdTruncate, Name: "TRUNCATE", Aliases: []string{"FLUSHDB"}, Flags: Write | Admin,
		Reply: "`OK`",
		Help:  "Removes all keys, on all nodes: every write that was stamped before. Writes after it stay."},
	{ID: CmdDebug, Name: "DEBUG", MinArgs: 2, MaxArgs: 2, Keys: SecondKey, Flags: Read | Admin,
		Usage: "KEY key", Reply: "for each facet held a line `# facet` and `name:value` lines, then `END`; or `(null)`",
		Help: "Shows what this node holds of a key, deleted or not (see below)."},
	{ID: CmdClient, Name: "CLIENT", MinArgs: 1, MaxArgs: 1, Flags: Admin,
		Usage: "LIST", Reply: "one line a connection, then `END`",
		Help: "Lists the connections."},
	{ID: CmdPeer, Name: "PEER", Flags: Admin,
		Reply: "`OK`, then the peer protocol",
		Help:  "Turns the connection over to the binary protocol between nodes."},
	{ID: CmdQuit, Name: "QUIT",
		Reply: "`OK`",
		Help:  "Ends the connection."},
	{ID: CmdShutdown, Name: "SHUTDOWN", Flags: Admin,
		Reply: "`OK`",
		Help:  "Stops the node cleanly, where its configuration allows that."},
}

// name is a command under one of its names.
type name struct {
	text    string
	command *Command
}

// buckets holds the names by the low five bits of their first letter, which are
// the same in upper and lower case.
var buckets = func() (b [32][]name) {
	for i := range table {
		c := &table[i]
		for _, text := range append([]string{c.Name}, c.Aliases...) {
			b[text[0]&31] = append(b[text[0]&31], name{text, c})
		}
	}
	return b
}()

// Lookup returns the command of a name in any case, nil if there is none. It
// allocates nothing.
func Lookup(text []byte) *Command {
	if len(text) == 0 {
		return nil
	}
	for _, n := range buckets[text[0]&31] {
		if len(n.text) == len(text) && foldedEqual(n.text, text) {
			return n.command
		}
	}
	return nil
}

// foldedEqual reports whether text is upper in any case. Both have one length.
func foldedEqual(upper string, text []byte) bool {
	for i := range len(text) {
		c := text[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// IsWord reports whether text is the upper-case word in any case.
func IsWord(text []byte, upper string) bool {
	return len(text) == len(upper) && foldedEqual(upper, text)
}

// String returns the command's name in lower case, as metrics show it.
func (id ID) String() string { return names[id%NumCommands] }

var names = func() (n [NumCommands]string) {
	n[CmdNone] = "unknown"
	for _, c := range table {
		lower := []byte(c.Name)
		for i := range lower {
			lower[i] += 'a' - 'A'
		}
		n[c.ID] = string(lower)
	}
	return n
}()
