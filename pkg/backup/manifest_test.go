package backup_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/backup"
)

var update = flag.Bool("update", false, "write the golden files")

const golden = "testdata/backup.json"

// exampleManifest is what the golden file holds.
func exampleManifest() backup.Manifest {
	m := backup.Manifest{
		Format: 1, Program: "1.2.3", NodeID: "node1", Volume: 0xABC,
		Created: time.Date(2026, 11, 22, 3, 15, 0, 250e6, time.UTC),
		Contents: backup.Contents{
			Entries: 12, Covered: 10, Root: backup.Root{0: 0xAB, 31: 0xCD}, Epoch: second0, Version: backup.Version(at(0)),
		},
		Bytes: 6,
		Files: []backup.File{
			{Name: "000004.sst", Size: 4, SHA256: strings.Repeat("ab", 32)},
			{Name: "MANIFEST-000001", Size: 2, SHA256: strings.Repeat("cd", 32)},
		},
	}
	return m
}

func TestManifestGolden(t *testing.T) {
	text := backup.EncodeManifest(t, exampleManifest())
	if *update {
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("the format has changed:\n%s\nwant\n%s", text, want)
	}
	m, err := backup.DecodeManifest(want)
	if err != nil || m.Name() != "node1-20261122T031500.250Z" || m.Contents != exampleManifest().Contents {
		t.Errorf("read %+v, %v", m, err)
	}
}

func TestManifestOfAnotherMeaning(t *testing.T) {
	for name, change := range map[string]func(*backup.Manifest){
		"format 0":            func(m *backup.Manifest) { m.Format = 0 },
		"negative format":     func(m *backup.Manifest) { m.Format = -1 },
		"node of a path":      func(m *backup.Manifest) { m.NodeID = "../node" },
		"file of a path":      func(m *backup.Manifest) { m.Files[0].Name = "../../000004.sst" },
		"file of no name":     func(m *backup.Manifest) { m.Files[0].Name = "" },
		"file above":          func(m *backup.Manifest) { m.Files[0].Name = ".." },
		"one file twice":      func(m *backup.Manifest) { m.Files[1].Name = m.Files[0].Name },
		"negative size":       func(m *backup.Manifest) { m.Files[0].Size = -1 },
		"sizes without end":   func(m *backup.Manifest) { m.Files[0].Size, m.Files[1].Size = 1<<62, 1<<62 },
		"sum of other sizes":  func(m *backup.Manifest) { m.Bytes = 7 },
		"more covered":        func(m *backup.Manifest) { m.Covered = 13 },
		"half a millisecond":  func(m *backup.Manifest) { m.Created = m.Created.Add(time.Microsecond) },
		"another time's zone": func(m *backup.Manifest) { m.Created = m.Created.In(time.FixedZone("x", 3600)) },
	} {
		m := exampleManifest()
		change(&m)
		if got, err := backup.DecodeManifest(backup.EncodeManifest(t, m)); err == nil {
			t.Errorf("%s is taken: %+v", name, got)
		}
	}
}

func TestManifestOfANewerFormat(t *testing.T) {
	files := vfs.NewMem()
	if err := files.MkdirAll("backups/x", 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, files, "backups/x/backup.json", []byte(`{"format": 2, "what comes": "then"}`))
	_, err := backup.ReadManifest(files, "backups/x")
	if !errors.Is(err, backup.ErrNewerFormat) || !strings.Contains(err.Error(), "2") || !strings.Contains(err.Error(), "backups/x") {
		t.Errorf("got %v", err)
	}
}

// A manifest too long to be one is not read to its end.
func TestManifestOfTooManyBytes(t *testing.T) {
	files := vfs.NewMem()
	if err := files.MkdirAll("backups/x", 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, files, "backups/x/backup.json", make([]byte, 16<<20+1))
	if _, err := backup.ReadManifest(files, "backups/x"); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	text, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := backup.DecodeManifest(data)
		if err == nil && !bytes.Equal(backup.EncodeManifest(t, m), data) {
			t.Errorf("two texts of one manifest: %q", data)
		}
	})
}
