package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/admin"
	"merklekv/pkg/backup"
	"merklekv/pkg/hlc"
	"merklekv/pkg/journal/disk"
	"merklekv/pkg/kv"
	"merklekv/pkg/volume"
)

// stopped is the data directory of a node that does not run, and flags that name it
// and a directory for backups.
func stopped(t *testing.T) (dataDir, backupDir string, flags []string) {
	t.Helper()
	dataDir, backupDir = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backups")
	v, err := volume.Open(dataDir, "node1", volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := disk.Open(v.JournalDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stamp := kv.Version{HLC: hlc.At(1_790_000_000_000), Instance: 7}
	for _, e := range []kv.Entry{
		{Key: []byte("a"), Version: stamp, Value: []byte("1")}, {Key: []byte("b"), Version: stamp, Flags: kv.Tombstone},
		{Facet: []byte("mnode1"), Version: stamp}, {Facet: []byte("mnode2"), Version: stamp, Flags: kv.Tombstone},
	} {
		j.Append(&kv.Change{Entry: e})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(stamp.HLC); err != nil {
		t.Fatal(err)
	}
	return dataDir, backupDir, []string{"--data-dir", dataDir, "--backup-dir", backupDir}
}

// onlyBackup returns the one backup that there is.
func onlyBackup(t *testing.T, dir string) backup.Backup {
	t.Helper()
	all, err := backup.List(nil, dir)
	if err != nil || len(all) != 1 || all[0].Err != nil {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

// expect runs a command line and compares exit code and output.
func expect(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	got, stdout, stderr := invoke(t, nil, args...)
	if got != code || !strings.Contains(stdout+stderr, want) {
		t.Errorf("%q: exit %d, %q, %q; want exit %d and %q", args, got, stdout, stderr, code, want)
	}
}

func with(flags []string, args ...string) []string { return append(args, flags...) }

func TestBackupOfAStoppedNode(t *testing.T) {
	_, backupDir, flags := stopped(t)
	expect(t, exitOK, "no backups in "+backupDir, with(flags[2:], "backup", "list")...)
	expect(t, exitOK, "holds 4 entries in ", with(flags, "backup", "create")...)
	b := onlyBackup(t, backupDir)
	if b.NodeID != "node1" {
		t.Errorf("a backup of %s", b.NodeID)
	}
	expect(t, exitOK, b.Name, with(flags, "backup", "list")...)
	expect(t, exitOK, "is whole: 4 entries of node1", with(flags, "backup", "verify", b.Name)...)
	expect(t, exitOK, "is whole: 4 entries of node1", "backup", "verify", b.Path)

	elsewhere := filepath.Join(t.TempDir(), "restored")
	restore := []string{"backup", "restore", b.Path, "--data-dir", elsewhere}
	expect(t, exitUsage, "give --yes", restore...)
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("something was made without --yes")
	}
	expect(t, exitOK, "is the data of node node1: 4 entries", append(restore, "--yes")...)
	expect(t, exitUsage, "holds a journal already", append(restore, "--yes")...)
	info, err := volume.Inspect(vfs.Default, elsewhere)
	if err != nil || info.NodeID != "node1" || info.ID == uint64(b.Manifest.Volume) || info.Bound != b.Manifest.Version.HLC {
		t.Errorf("restored as %+v, %v", info, err)
	}
}

func TestRestoreForAnotherCluster(t *testing.T) {
	_, backupDir, flags := stopped(t)
	expect(t, exitOK, "holds 4 entries", with(flags, "backup", "create")...)
	elsewhere := filepath.Join(t.TempDir(), "restored")
	expect(t, exitOK, "left out: 2 members", "backup", "restore", onlyBackup(t, backupDir).Name, "--backup-dir", backupDir,
		"--data-dir", elsewhere, "--node-id", "node9", "--new-cluster", "--yes")
	r, err := disk.OpenReadOnly(filepath.Join(elsewhere, "journal"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var keys []string
	if err := r.Load(func(e *kv.Entry) error { keys = append(keys, string(e.Key)); return nil }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(keys, " "); got != "a b" {
		t.Errorf("restored %q", got)
	}
}

func TestBackupCommandsThatCannotBe(t *testing.T) {
	dataDir, backupDir, flags := stopped(t)
	empty := t.TempDir()
	expect(t, exitUsage, "give --backup-dir", "backup", "create", "--data-dir", dataDir)
	expect(t, exitUsage, "give --backup-dir", "backup", "list")
	expect(t, exitUsage, "give --backup-dir", "backup", "verify", "nothing-by-that-name")
	expect(t, exitUsage, "create, list, verify or restore", "backup")
	expect(t, exitUsage, "arg", "backup", "verify")
	expect(t, exitFailure, "no backup there", "backup", "verify", filepath.Join(empty, "x"))
	expect(t, exitFailure, "no answer", "backup", "create", "--data-dir", empty, "--admin-port", fmt.Sprint(freePort(t)))
	expect(t, exitUsage, "belongs to node", with(flags, "backup", "create", "--node-id", "node2")...)

	expect(t, exitOK, "holds", with(flags, "backup", "create")...)
	b := onlyBackup(t, backupDir)
	file := filepath.Join(b.Path, "journal", b.Manifest.Files[0].Name)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, exitFailure, "backup is damaged", "backup", "verify", b.Path)
	expect(t, exitFailure, "backup is damaged", "backup", "restore", b.Path, "--data-dir", filepath.Join(empty, "x"), "--yes")
}

// A node that runs is asked; the directory that it uses is left alone.
func TestBackupOfARunningNode(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be asked
	dataDir, _, _ := stopped(t)
	v, err := volume.Open(dataDir, "node1", volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(v.Bound())
	answer, status, kind := "", 200, "application/jsonl"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != admin.BackupsPath {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	create := []string{"backup", "create", "--data-dir", dataDir, "--admin-port", port}

	answer = `{"done":1,"total":2}` + "\n" + `{"backup":{"name":"b","path":"/b","entries":1,"bytes":2048,"root":"ab"}}` + "\n"
	expect(t, exitOK, "/b holds 1 entry in 2.0 KiB, root ab", create...)
	expect(t, exitOK, "backup: 50 % of 2 bytes", append(create, "--progress")...)
	expect(t, exitUsage, "leave out --backup-dir", append(create, "--backup-dir", "elsewhere")...)
	answer = `{"done":1,"total":2}` + "\n"
	expect(t, exitFailure, "before the backup was made", create...)
	answer = `{"backup":{"name":"b","path":"/b"},"error":"remove older backups"}` + "\n"
	expect(t, exitFailure, "remove older backups", create...)
	answer, status = `{"error":"a backup is being made already"}`, 409
	expect(t, exitFailure, "being made already", create...)
	answer, status, kind = "nothing at /api/backups", 404, "text/plain"
	expect(t, exitFailure, "no node that makes backups: 404", create...)
}

func TestProgressOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, terminal: true, what: "verify"}
	p.tell(1, 4)
	p.tell(2, 4) // too soon
	p.end()
	if got := out.String(); got != "\rverify: 25 % of 4 bytes\x1b[K\r\x1b[K" {
		t.Errorf("shown %q", got)
	}
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 3 << 50: "3072.0 TiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
