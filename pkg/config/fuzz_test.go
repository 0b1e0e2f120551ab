package config

import (
	"errors"
	"os"
	"testing"
)

// FuzzLoad: whatever a file holds, Load returns a valid configuration or an
// *Error, and never both or neither.
func FuzzLoad(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzLoad")
	if err != nil || len(seeds) < 5 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := newLoader(Sources{Partial: true, File: "fuzz.toml"})
		l.readTOML(data)
		loaded, err := l.finish()
		if err == nil {
			if problems := loaded.Config.problems(false); len(problems) > 0 {
				t.Fatalf("loaded though wrong: %v", problems)
			}
			for _, key := range Keys() {
				if o := loaded.Origins[key.Name]; o.Layer == FromFile && o.Line < 1 {
					t.Fatalf("%s comes from line %d", key.Name, o.Line)
				}
			}
			return
		}
		var e *Error
		if loaded != nil || !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("%v with %v", loaded, err)
		}
	})
}
