package admin

import (
	"strings"
	"testing"
	"time"
)

func TestAPIAnswersJSON(t *testing.T) {
	asked := 0
	base := serve(t, Options{API: API{
		Syncs: func(n int) []Sync {
			asked = n
			at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
			return []Sync{{Number: 7, At: at, Peer: "b", Why: "roots", Outcome: "repaired", Millis: 1.5, Sample: []string{"k%20"}}}
		},
		Peers: func() []Peer {
			return []Peer{{NodeID: "b", Live: true, Epochs: []PeerEpoch{{Epoch: 9, Root: "ab"}}, Stuck: &PeerStuck{Sessions: 3, Keys: []string{"k"}}}}
		},
		Epochs:  func() []Epoch { return []Epoch{{Epoch: 9, Root: "ab", Count: 2, Told: true}} },
		Members: func() []Member { return []Member{{NodeID: "a", Self: true}, {NodeID: "b"}} },
	}})
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"/api/syncs", []string{`"n":7`, `"at":"2026-01-02T03:04:05.006Z"`, `"peer":"b"`, `"ms":1.5`, `"sample":["k%20"]`, `"round_trips":0`}},
		{"/api/peers", []string{`"node_id":"b"`, `"live":true`, `"epochs":[{"epoch":9,"root":"ab"`, `"stuck":{"sessions":3,"keys":["k"]}`}},
		{"/api/epochs", []string{`[{"epoch":9,"root":"ab","count":2,"told":true}]`}},
		{"/api/members", []string{`"node_id":"a"`, `"self":true`, `"node_id":"b"`}},
	} {
		status, header, body := request(t, "GET", base+tc.path)
		if status != 200 || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d, %s", tc.path, status, header.Get("Content-Type"))
		}
		for _, want := range tc.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %s in %s", tc.path, want, body)
			}
		}
	}
	if asked != MaxSyncs {
		t.Errorf("without n %d sessions are asked for", asked)
	}
}

func TestAPIOfWhatIsNotThere(t *testing.T) {
	base := serve(t, Options{})
	for _, path := range []string{"/api/syncs", "/api/peers", "/api/epochs", "/api/members"} {
		if status, _, body := request(t, "GET", base+path); status != 200 || body != "[]\n" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, _, body := request(t, "GET", base+"/api/nothing"); status != 404 || !strings.Contains(body, "/api/members") {
		t.Errorf("%d %q", status, body)
	}
}

func TestAPIBoundsTheNumberOfSessions(t *testing.T) {
	var asked []int
	base := serve(t, Options{API: API{Syncs: func(n int) []Sync { asked = append(asked, n); return nil }}})
	for n, want := range map[string]int{"1": 200, "100": 200, "0": 400, "101": 400, "-1": 400, "many": 400, "99999999999999999999": 400} {
		if status, _, body := request(t, "GET", base+"/api/syncs?n="+n); status != want {
			t.Errorf("n=%s: %d %q", n, status, body)
		}
	}
	if len(asked) != 2 {
		t.Errorf("asked for %v", asked)
	}
}
