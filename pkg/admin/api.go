package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// API is what /api/ answers from. Each function is called for each request, by
// several goroutines at once, and should not block, unless it says so; where one is
// nil, its path answers an empty list.
type API struct {
	// Syncs returns the last n repair sessions at most, newest first.
	Syncs func(n int) []Sync
	// Peers returns the other nodes as this one sees them.
	Peers func() []Peer
	// Epochs returns the own closed epochs, newest first.
	Epochs func() []Epoch
	// Members returns the nodes that joined the cluster and are not forgotten.
	Members func() []Member
	// Backups returns the node's backups, newest first, those that cannot be read
	// included. It reads the disk.
	Backups func() ([]Backup, error)
	// Backup makes a backup now, until ctx ends, and calls progress meanwhile from one
	// goroutine at a time. Errors may wrap ErrBusy and ErrUnavailable; a backup that is
	// returned beside an error is whole.
	Backup func(ctx context.Context, progress func(done, total int64)) (Backup, error)
}

// MaxSyncs is how many sessions /api/syncs shows at most.
const MaxSyncs = 100

// Sync is one repair session and its price. Instances are 16 hexadecimal digits,
// keys are percent-escaped as in the client protocol's reports.
type Sync struct {
	Number   uint64    `json:"n"`
	At       time.Time `json:"at"`
	Peer     string    `json:"peer"`
	Instance string    `json:"instance"`
	Address  string    `json:"address,omitempty"` // that was dialled; none where the peer dialled
	Why      string    `json:"why"`               // roots, vectors, gap, interval, command, served
	Mode     string    `json:"mode"`              // repair, verify, full
	Outcome  string    `json:"outcome"`           // equal, repaired, unequal, failed
	Error    string    `json:"error,omitempty"`   // why it broke off
	Millis   float64   `json:"ms"`

	Epoch     int64    `json:"epoch"`     // at which the sets were compared; 0 is the present
	Success   bool     `json:"success"`   // every differing key was merged, or the same by then
	Equal     bool     `json:"equal"`     // so the roots were, or became
	Partial   bool     `json:"partial"`   // bounds left something for the next session
	Compared  int      `json:"compared"`  // entries of the own set
	Differing int      `json:"differing"` // keys
	Sample    []string `json:"sample"`    // the first of them
	Pulled    int      `json:"pulled"`    // entries that won here
	Pushed    int      `json:"pushed"`    // entries that won there
	Moot      int      `json:"moot"`      // keys that were the same by then
	Deferred  int      `json:"deferred"`  // entries from the future
	Different int      `json:"different"` // entries, found by verifying
	// Differences are the first ten of them.
	Differences []Difference `json:"differences,omitempty"`

	BytesIn    int64 `json:"bytes_in"` // of the session
	BytesOut   int64 `json:"bytes_out"`
	LinkIn     int64 `json:"link_in"` // of its connection, handshake and heads included
	LinkOut    int64 `json:"link_out"`
	Turns      int   `json:"turns"` // both sides'
	RoundTrips int   `json:"round_trips"`
}

// Difference is an entry that two nodes do not hold in the same version. A version
// that is not held is empty.
type Difference struct {
	Key   string `json:"key"`
	Facet string `json:"facet"`
	Here  string `json:"here"`
	There string `json:"there"`
}

// Peer is another node: one instance that was heard, or a member that was not.
type Peer struct {
	NodeID     string      `json:"node_id"`
	Instance   string      `json:"instance"`
	Address    string      `json:"address"`
	Version    string      `json:"version"`
	Live       bool        `json:"live"`
	Heard      bool        `json:"heard"`    // ever; where not, the times below say nothing
	HeardMS    int64       `json:"heard_ms"` // ago
	HeadAgeMS  int64       `json:"head_age_ms"`
	MQTT       bool        `json:"mqtt"`
	Comparable bool        `json:"comparable"` // its parameters are this node's
	Paused     bool        `json:"paused"`     // it exchanges no changes
	LagEntries uint64      `json:"lag_entries"`
	LagMS      int64       `json:"lag_ms"`
	Missing    uint64      `json:"missing"` // own changes that it is not known to hold
	Epochs     []PeerEpoch `json:"epochs"`  // newest first
	Stuck      *PeerStuck  `json:"stuck,omitempty"`
}

// PeerEpoch is a closed epoch as a peer tells of it, and as it is here. A root
// that is not told is empty.
type PeerEpoch struct {
	Epoch      int64  `json:"epoch"`
	Root       string `json:"root"`
	Count      uint64 `json:"count"`
	OwnRoot    string `json:"own_root"`
	SameVector bool   `json:"same_vector"` // both received the same up to it
}

// PeerStuck says that sessions with a peer in a row moved nothing and ended
// unequal.
type PeerStuck struct {
	Sessions int      `json:"sessions"`
	Keys     []string `json:"keys"` // some that differ, percent-escaped
}

// Epoch is an own closed epoch.
type Epoch struct {
	Epoch int64  `json:"epoch"` // seconds since 1970 at which it began
	Root  string `json:"root"`  // 64 hexadecimal digits
	Count int    `json:"count"` // entries
	Told  bool   `json:"told"`  // peers may compare it
}

// Member is a node of the cluster as its own entry tells of it.
type Member struct {
	NodeID   string `json:"node_id"`
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Version  string `json:"version"` // of the entry
	Self     bool   `json:"self"`
	Live     bool   `json:"live"`
}

// addAPI adds the paths under /api/ and returns them.
func addAPI(mux *http.ServeMux, api API, log *slog.Logger) []string {
	mux.HandleFunc("/api/syncs", func(w http.ResponseWriter, r *http.Request) {
		n := MaxSyncs
		if text := r.URL.Query().Get("n"); text != "" {
			var err error
			if n, err = strconv.Atoi(text); err != nil || n < 1 || n > MaxSyncs {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, "n is %.20q; it is a number from 1 to %d\n", text, MaxSyncs)
				return
			}
		}
		var list []Sync
		if api.Syncs != nil {
			list = api.Syncs(n)
		}
		writeList(w, list, log)
	})
	mux.Handle("/api/peers", listHandler(api.Peers, log))
	mux.Handle("/api/epochs", listHandler(api.Epochs, log))
	mux.Handle("/api/members", listHandler(api.Members, log))
	mux.Handle(BackupsPath, backupsHandler(api, log))
	return []string{"/api/syncs?n=", "/api/peers", "/api/epochs", "/api/members", BackupsPath}
}

func listHandler[T any](list func() []T, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var items []T
		if list != nil {
			items = list()
		}
		writeList(w, items, log)
	})
}

// writeList writes a JSON array, one that is empty for nil.
func writeList[T any](w http.ResponseWriter, items []T, log *slog.Logger) {
	if items == nil {
		items = []T{}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(items); err != nil {
		log.Debug("answer is not written", "err", err) // the client has gone
	}
}
