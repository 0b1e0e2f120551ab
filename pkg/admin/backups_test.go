package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// post sends a POST and returns the status and the lines of the answer.
func post(t *testing.T, url string, header http.Header) (int, []BackupLine, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list []BackupLine
	var text strings.Builder
	for in := bufio.NewScanner(response.Body); in.Scan(); {
		var line BackupLine
		fmt.Fprintln(&text, in.Text())
		if json.Unmarshal(in.Bytes(), &line) == nil {
			list = append(list, line)
		}
	}
	return response.StatusCode, list, text.String()
}

func TestBackupIsMadeAndTold(t *testing.T) {
	base := serve(t, Options{API: API{Backup: func(_ context.Context, progress func(done, total int64)) (Backup, error) {
		progress(0, 100)
		progress(1, 100) // too soon after the last one to be told
		return Backup{Name: "b", Entries: 7}, nil
	}}})
	status, list, text := post(t, base+BackupsPath, nil)
	if status != 200 || len(list) != 2 || list[0].Total != 100 || list[1].Backup == nil || list[1].Backup.Entries != 7 || list[1].Error != "" {
		t.Errorf("%d %s", status, text)
	}
}

func TestBackupThatFails(t *testing.T) {
	for name, tc := range map[string]struct {
		err      error
		begun    bool // something was told before
		whole    bool
		status   int
		contains string
	}{
		"busy":            {fmt.Errorf("%w: wait", ErrBusy), false, false, 409, "wait"},
		"unavailable":     {ErrUnavailable, false, false, 503, "not available"},
		"anything":        {errors.New("disk\nfull"), false, false, 500, "disk full"},
		"begun":           {errors.New("disk full"), true, false, 200, "disk full"},
		"the older stay":  {errors.New("remove older backups"), true, true, 200, "remove older"},
		"whole, but said": {errors.New("remove older backups"), false, true, 500, "remove older"},
	} {
		t.Run(name, func(t *testing.T) {
			base := serve(t, Options{API: API{Backup: func(_ context.Context, progress func(done, total int64)) (Backup, error) {
				if tc.begun {
					progress(0, 1)
				}
				if tc.whole {
					return Backup{Name: "b"}, tc.err
				}
				return Backup{}, tc.err
			}}})
			status, list, text := post(t, base+BackupsPath, nil)
			if status != tc.status || len(list) == 0 {
				t.Fatalf("%d %s", status, text)
			}
			last := list[len(list)-1]
			if !strings.Contains(last.Error, tc.contains) || (last.Backup != nil) != tc.whole {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	if status, _, text := post(t, serve(t, Options{})+BackupsPath, nil); status != 503 {
		t.Errorf("where there are none: %d %s", status, text)
	}
}

// A page that an operator looks at cannot make a backup through his browser.
func TestBackupThatAnotherSiteAsksFor(t *testing.T) {
	made := false
	base := serve(t, Options{API: API{Backup: func(context.Context, func(done, total int64)) (Backup, error) {
		made = true
		return Backup{Name: "b"}, nil
	}}})
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://elsewhere.example"}},
	} {
		if status, _, text := post(t, base+BackupsPath, header); status != 403 || made {
			t.Errorf("%v: %d %s", header, status, text)
		}
	}
	if status, _, text := post(t, base+BackupsPath, http.Header{"Sec-Fetch-Site": {"same-origin"}}); status != 200 || !made {
		t.Errorf("the own site: %d %s", status, text)
	}
}

func TestPostElsewhereIsRefused(t *testing.T) {
	base := serve(t, Options{})
	if status, _, text := post(t, base+"/api/syncs", nil); status != 405 {
		t.Errorf("%d %s", status, text)
	}
}

func TestBackupsAreListed(t *testing.T) {
	list, problem := []Backup{{Name: "b", Problem: "damaged"}}, error(nil)
	base := serve(t, Options{API: API{Backups: func() ([]Backup, error) { return list, problem }}})
	if status, _, body := request(t, "GET", base+BackupsPath); status != 200 || !strings.Contains(body, `"problem":"damaged"`) {
		t.Errorf("%d %q", status, body)
	}
	problem = errors.New("no such disk")
	if status, _, body := request(t, "GET", base+BackupsPath); status != 500 || !strings.Contains(body, "no such disk") {
		t.Errorf("%d %q", status, body)
	}
	if status, _, body := request(t, "GET", serve(t, Options{})+BackupsPath); status != 200 || body != "[]\n" {
		t.Errorf("%d %q", status, body)
	}
}
