package node

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/diskspace"
)

// JournalFS shows tests where the journal of a node lies whose disk is watched.
func JournalFS(w *diskspace.Watcher) vfs.FS {
	return (&Node{room: room{watcher: w}}).journalFS()
}
