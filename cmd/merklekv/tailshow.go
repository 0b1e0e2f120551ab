package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"merklekv/pkg/antientropy"
	"merklekv/pkg/kv"
	"merklekv/pkg/protocol"
	"merklekv/pkg/replication"
)

// shownValue is how much of a value a line shows, in bytes.
const shownValue = 80

// tail shows what it hears. It is for one goroutine.
type tail struct {
	flags tailFlags
	out   io.Writer
	names map[uint64]string // node_id by instance
}

// maxNames bounds what is remembered of nodes that come and go.
const maxNames = 10_000

func (t *tail) name(instance uint64, nodeID string) {
	if len(t.names) >= maxNames {
		clear(t.names)
	}
	t.names[instance] = nodeID
}

// show prints a message.
func (t *tail) show(h *replication.Heard) error {
	switch {
	case h.Presence != nil:
		t.name(h.Presence.Instance, h.Presence.NodeID)
	case h.Head != nil:
		t.name(h.Head.Instance, h.Head.NodeID)
		return t.print(headEvent(h.Head))
	case h.Batch != nil:
		for i := range h.Batch.Changes {
			c := &h.Batch.Changes[i]
			if !strings.HasPrefix(string(c.Entry.Key), t.flags.keyPrefix) || c.Stub && t.flags.keyPrefix != "" {
				continue
			}
			if err := t.print(t.changeEvent(c)); err != nil {
				return err
			}
		}
	}
	return nil
}

// event is one line. Its text is what follows the time.
type event struct {
	At       string `json:"at"`
	Node     string `json:"node"` // the instance where the node_id is not known
	Instance string `json:"instance"`
	Seq      uint64 `json:"seq"`
	Op       string `json:"op"` // SET, DEL, CLUSTER (an entry of the cluster itself), LARGE (too large for a message), HEAD
	Key      string `json:"key,omitempty"`
	Facet    string `json:"facet,omitempty"`
	Version  string `json:"version,omitempty"`
	Value    string `json:"value,omitempty"`        // of a SET, when it is UTF-8
	Base64   string `json:"value_base64,omitempty"` // when it is not
	Bytes    int    `json:"value_bytes"`

	text string
}

func (t *tail) print(e *event) error {
	var line []byte
	if t.flags.json {
		var err error
		if line, err = json.Marshal(e); err != nil {
			return err
		}
	} else {
		line = fmt.Appendf(nil, "%s %s %d %s", e.At, e.Node, e.Seq, e.text)
	}
	_, err := t.out.Write(append(line, '\n'))
	return err
}

func (t *tail) changeEvent(c *protocol.DecodedChange) *event {
	e := &event{Instance: fmt.Sprintf("%016x", c.Origin), Seq: c.Seq, Node: t.names[c.Origin], At: "-"}
	if e.Node == "" {
		e.Node = e.Instance
	}
	if c.Stub {
		e.Op, e.text = "LARGE", "LARGE (nodes fetch it from each other)"
		return e
	}
	entry := &c.Entry
	e.At, e.Version = wallText(entry.Version.HLC.Millis()), entry.Version.String()
	e.Key, e.Facet, e.Bytes = escaped(entry.Key), escaped(entry.Facet), len(entry.Value)
	if utf8.Valid(entry.Value) {
		e.Value = string(entry.Value)
	} else {
		e.Base64 = base64.StdEncoding.EncodeToString(entry.Value)
	}
	name := e.Key
	if len(entry.Facet) > 0 {
		name += "/" + e.Facet
	}
	switch {
	case entry.IsReserved():
		e.Op, e.text = "CLUSTER", "CLUSTER "+clusterText(entry)
	case entry.IsTombstone():
		e.Op, e.text = "DEL", "DEL "+name
	default:
		e.Op, e.text = "SET", "SET "+name+" "+shortened(entry.Value)
	}
	return e
}

// truncationFacet is the facet of the reserved key whose version is the truncation
// mark.
const truncationFacet = "t"

// clusterText says what an entry of the reserved key is about.
func clusterText(e *kv.Entry) string {
	m, err := antientropy.DecodeMember(e)
	switch {
	case err == nil:
		return "member " + m.NodeID + " at " + m.Address
	case string(e.Facet) == truncationFacet:
		return "all keys written before are removed"
	case e.IsTombstone():
		return "removed " + escaped(e.Facet)
	}
	return escaped(e.Facet)
}

func escaped(b []byte) string { return string(protocol.AppendEscaped(nil, b)) }

// shortened quotes a value, or its beginning and its length.
func shortened(value []byte) string {
	if len(value) <= shownValue {
		return strconv.Quote(string(value))
	}
	return fmt.Sprintf("%s... %d bytes", strconv.Quote(string(value[:shownValue])), len(value))
}

func headEvent(h *replication.Head) *event {
	e := &event{
		At: wallText(h.Wall), Node: h.NodeID, Instance: fmt.Sprintf("%016x", h.Instance), Seq: h.Last.Seq, Op: "HEAD",
	}
	e.text = fmt.Sprintf("HEAD %d at %s", h.Counter, h.Address)
	if len(h.Epochs) > 0 {
		newest := &h.Epochs[0]
		root := "untold"
		if len(newest.Root) > 0 {
			root = fmt.Sprintf("%x", newest.Root[:min(8, len(newest.Root))])
		}
		e.text += fmt.Sprintf(" epoch %d root %s entries %d", newest.Epoch, root, newest.Count)
	}
	if h.Paused {
		e.text += " paused"
	}
	return e
}
