package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLevelsLetThroughWhatIsAsSevere(t *testing.T) {
	levels := []slog.Level{LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for i, name := range []string{"trace", "debug", "info", "warn", "error"} {
		var out bytes.Buffer
		logger, _, err := New(Options{Level: name, Output: &out})
		if err != nil {
			t.Fatal(err)
		}
		for _, level := range levels {
			logger.Log(context.Background(), level, "record")
		}
		if got, want := strings.Count(out.String(), "\n"), len(levels)-i; got != want {
			t.Errorf("level %s: %d records, want %d", name, got, want)
		}
	}
}

func TestLevelChangesWhileInUse(t *testing.T) {
	var out bytes.Buffer
	logger, handle, err := New(Options{Level: "error", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	component := logger.With("component", "test")
	component.Info("before")
	if err := handle.SetLevel("info"); err != nil {
		t.Fatal(err)
	}
	component.Info("after")
	if got := out.String(); strings.Contains(got, "before") || !strings.Contains(got, "after") {
		t.Errorf("got %q", got)
	}
	if err := handle.SetLevel("loud"); err == nil {
		t.Error("an unknown level was taken")
	}
}

func TestFormats(t *testing.T) {
	var out bytes.Buffer
	logger, _, err := New(Options{Level: "trace", Format: "json", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	logger.With("component", "test").Log(context.Background(), LevelTrace, "hello")
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if record["level"] != "TRACE" || record["component"] != "test" || record["msg"] != "hello" {
		t.Errorf("got %v", record)
	}

	out.Reset()
	logger, _, err = New(Options{Format: "text", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("hello", "level", "own")
	if !strings.Contains(out.String(), "level=INFO msg=hello level=own") {
		t.Errorf("got %q", out.String())
	}
}

func TestNewRefuses(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no", "such", "dir", "log")
	for name, options := range map[string]Options{
		"level":     {Level: "loud"},
		"format":    {Format: "xml"},
		"directory": {FilePath: missing, MaxFiles: 1},
		"size":      {FilePath: filepath.Join(t.TempDir(), "log"), MaxSizeMB: -1},
	} {
		if _, _, err := New(options); err == nil {
			t.Errorf("wrong %s: no error", name)
		}
	}
}

func TestLoggerWritesToItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	var other bytes.Buffer
	logger, handle, err := New(Options{FilePath: path, MaxSizeMB: 1, Output: &other})
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("first")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := handle.Reopen(); err != nil {
		t.Fatal(err)
	}
	logger.Info("second")
	if err := handle.Close(); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{path + ".away": "first", path: "second"} {
		if got := read(t, file); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
			t.Errorf("%s holds %q, want one record %q", file, got, want)
		}
	}
	if other.Len() > 0 {
		t.Errorf("written beside the file: %q", other.String())
	}
}

func TestHandleWithoutFile(t *testing.T) {
	_, handle, err := New(Options{Output: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := handle.Reopen(); err != nil {
		t.Error(err)
	}
	if err := handle.Close(); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
