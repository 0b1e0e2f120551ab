package config

import (
	"context"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Change is what a reload found.
type Change struct {
	Old, New *Loaded
	// Changed are the keys whose new value New has.
	Changed []string
	// NeedRestart are the keys whose new value cannot take effect in a running
	// node; New has their old value.
	NeedRestart []string
}

// Watcher reloads a configuration when a file that it came from changes. It
// polls, because notifications end when a file is replaced by another.
type Watcher struct {
	sources  Sources
	interval time.Duration
	onChange func(Change)
	onError  func(error)
	trigger  chan struct{} // never closed
	current  atomic.Pointer[Loaded]
}

// NewWatcher returns a watcher over the sources from which current was loaded.
// It looks every interval and takes a file that has stopped changing. Both
// functions are called by Run, one at a time. An error leaves the configuration
// in force as it is.
func NewWatcher(sources Sources, current *Loaded, interval time.Duration,
	onChange func(Change), onError func(error)) *Watcher {
	w := &Watcher{
		sources: sources, interval: interval, onChange: onChange, onError: onError,
		trigger: make(chan struct{}, 1),
	}
	w.current.Store(current)
	return w
}

// Current returns the configuration in force.
func (w *Watcher) Current() *Loaded { return w.current.Load() }

// Trigger asks Run for a reload now, whether or not a file has changed. It does
// not wait.
func (w *Watcher) Trigger() {
	select {
	case w.trigger <- struct{}{}:
	default: // one is asked for already
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	loaded := w.current.Load().files // a change since it was loaded counts
	previous := loaded
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.trigger:
			loaded = w.sources.stat()
			previous = loaded
			w.reload()
		case <-ticker.C:
			now := w.sources.stat()
			// A file that changed since the last look may be half written.
			if settled := now.same(previous); settled && !now.same(loaded) {
				loaded = now
				w.reload()
			}
			previous = now
		}
	}
}

// reload loads the sources afresh and puts into force what can be.
func (w *Watcher) reload() {
	fresh, err := Load(w.sources)
	if err != nil {
		w.onError(err)
		return
	}
	change, err := merge(w.current.Load(), fresh, !w.sources.Partial)
	if err != nil {
		w.onError(err)
		return
	}
	w.current.Store(change.New)
	w.onChange(change)
}

// merge takes from fresh what can change in a running node; complete asks for
// what is required, too.
func merge(old, fresh *Loaded, complete bool) (Change, error) {
	change := Change{Old: old}
	values, wanted := flatten(old.Config), flatten(fresh.Config)
	origins := make(map[string]Origin, len(old.Origins))
	for _, key := range Keys() {
		origins[key.Name] = fresh.Origins[key.Name]
		if reflect.DeepEqual(values[key.Name], wanted[key.Name]) {
			continue
		}
		if !key.Reloadable {
			origins[key.Name] = old.Origins[key.Name]
			change.NeedRestart = append(change.NeedRestart, key.Name)
			continue
		}
		values[key.Name] = wanted[key.Name]
		change.Changed = append(change.Changed, key.Name)
	}
	change.New = &Loaded{Origins: origins, Notices: fresh.Notices, Embedded: old.Embedded, files: fresh.files}
	mixed := koanf.New(".")
	if err := mixed.Load(confmap.Provider(values, "."), nil); err != nil {
		return Change{}, err
	}
	if err := decode(mixed, &change.New.Config); err != nil {
		return Change{}, err
	}
	// Old and new values, each valid among its own, may not go together.
	return change, asError(change.New.Config.problems(complete))
}

// state is what the system says of the watched files; nil where there is none.
type state []os.FileInfo

// stat looks at the configuration file and the secret files.
func (s Sources) stat() state {
	var paths []string
	if s.File != "" {
		paths = append(paths, s.File)
	}
	table := variables(lookup())
	for _, pair := range s.Environ {
		name, path, _ := strings.Cut(pair, "=")
		if table[name].fromFile {
			paths = append(paths, path)
		}
	}
	infos := make(state, len(paths))
	for i, path := range paths {
		infos[i], _ = os.Stat(path) // a missing file is a state, too; loading it says what is wrong
	}
	return infos
}

// same reports whether no file was replaced or written to.
func (s state) same(other state) bool {
	if len(s) != len(other) {
		return false
	}
	for i, a := range s {
		b := other[i]
		if a == nil || b == nil {
			if a != b {
				return false
			}
			continue
		}
		if !os.SameFile(a, b) || !a.ModTime().Equal(b.ModTime()) || a.Size() != b.Size() {
			return false
		}
	}
	return true
}
